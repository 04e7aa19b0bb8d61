package changelog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Timing of a pull. The server sends a heartbeat when it has nothing else to
// send; two missing ones mean that it is not there.
const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = 3 * time.Second
	pullSilence   = 2*pullHeartbeat + time.Second
)

// statusHeader is set on the messages of a pull that are not of the stream
// (NATS documentation, "JetStream wire API reference").
const statusHeader = "Status"

// A puller sends pull requests and receives what comes of them, on an inbox of
// its own: what an earlier puller asked for can never arrive here. The client
// library's Fetch limits a pull either by messages or by bytes and allocates
// 32 MB for the latter; its Messages drops messages when full. Hence our own.
type puller struct {
	nc      *nats.Conn
	subject string // of requests
	inbox   string // prefix of the replies; each pull has its own
	sub     *nats.Subscription
	msgs    chan *nats.Msg
	status  chan nats.Status
	silence *time.Timer

	pulls  uint64
	reply  string // of the newest request
	open   bool   // it is not finished
	got    int    // messages that it brought
	expect int    // messages that it brings in all, as far as is known
}

func newPuller(nc *nats.Conn, stream string) (*puller, error) {
	p := &puller{
		nc:      nc,
		subject: "$JS.API.CONSUMER.MSG.NEXT." + stream + "." + consumerName,
		inbox:   nc.NewInbox(),
		// Room for a whole pull and its heartbeats, also if nobody reads: a
		// full channel would drop.
		msgs:    make(chan *nats.Msg, pullBatches+4*int(pullExpires/pullHeartbeat)),
		silence: time.NewTimer(pullSilence),
	}
	var err error
	if p.sub, err = nc.ChanSubscribe(p.inbox+".*", p.msgs); err != nil {
		return nil, fmt.Errorf("subscribe to the change log: %w", err)
	}
	p.status = nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	return p, nil
}

func (p *puller) close() {
	_ = p.sub.Unsubscribe() // fails only without a connection, which ends it as well
	p.nc.RemoveStatusListener(p.status)
	p.silence.Stop()
}

// request opens a pull.
func (p *puller) request() error {
	body, err := json.Marshal(struct {
		Expires   time.Duration `json:"expires"`
		Batch     int           `json:"batch"`
		MaxBytes  int           `json:"max_bytes"`
		Heartbeat time.Duration `json:"idle_heartbeat"`
	}{pullExpires, pullBatches, pullBytes, pullHeartbeat})
	if err != nil {
		return fmt.Errorf("encode pull: %w", err)
	}
	p.pulls++
	p.reply = p.inbox + "." + strconv.FormatUint(p.pulls, 10)
	if err := p.nc.PublishRequest(p.subject, p.reply, body); err != nil {
		return fmt.Errorf("pull from the change log: %w", err)
	}
	p.open, p.got, p.expect = true, 0, pullBatches
	p.silence.Reset(pullSilence)
	return nil
}

// Errors that end a puller.
var (
	errSilence = errors.New("no message and no heartbeat from the server")
	errRefused = errors.New("the server ended a pull")
	errCut     = errors.New("the connection was cut")
)

// headerLeft is on a status that ends a pull: the messages it does not bring.
const headerLeft = "Nats-Pending-Messages"

// take counts a received message and reports whether it is a batch. The status
// that ends a pull may overtake the pull's last messages, when the server
// replicates its deliveries first; so a pull is over by counting.
func (p *puller) take(m *nats.Msg) (batch bool, err error) {
	p.silence.Reset(pullSilence)
	code := m.Header.Get(statusHeader)
	switch {
	case code == "" || len(m.Data) > 0:
		p.got++
		batch = true
	case code == "100", m.Subject != p.reply: // a heartbeat, or the late end of an earlier pull
		return false, nil
	default:
		left, err := strconv.Atoi(m.Header.Get(headerLeft))
		if err != nil {
			return false, fmt.Errorf("%w: status %s %s", errRefused, code, m.Header.Get("Description"))
		}
		p.expect = pullBatches - left
	}
	p.open = p.got < p.expect
	return batch, nil
}

// empty reports whether the pull is over and brought nothing.
func (p *puller) empty() bool { return !p.open && p.expect == 0 }
