package testenv

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken below the range from which the kernel serves outgoing
// connections: a server that is down for a moment must get its port back.
const lowestPort, highestPort = 15000, 32000

// choosePorts returns n ports that nobody listens on and that are not claimed by
// another instance. The caller holds the lock of the run directory.
func choosePorts(ctx context.Context, n int, claimed map[int]bool) ([]int, error) {
	start := rand.IntN(highestPort - lowestPort)
	var ports []int
	for i := 0; i < highestPort-lowestPort && len(ports) < n; i++ {
		port := lowestPort + (start+i)%(highestPort-lowestPort)
		if !claimed[port] && portFree(ctx, port) {
			ports = append(ports, port)
		}
	}
	if len(ports) < n {
		return nil, errors.New("testenv: no free ports")
	}
	return ports, nil
}

func portFree(ctx context.Context, port int) bool {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
