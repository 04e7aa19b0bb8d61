package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	prSetChildSubreaper = 36
	ipcRemove           = 0
	nobody              = 65534

	signalKill   = int(syscall.SIGKILL)
	signalQuit   = int(syscall.SIGQUIT)
	signalInt    = int(syscall.SIGINT)
	signalStop   = int(syscall.SIGSTOP)
	signalResume = int(syscall.SIGCONT)
)

// tryFlock reports whether the exclusive lock was free and is ours now.
func tryFlock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// detached puts the guard out of reach of the terminal's and the parent's signals.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// bound ties a server to its guard, and to another user where it refuses root.
func bound(uid, deathSignal int) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.Signal(deathSignal)}
	if uid != 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	return attr
}

// unprivileged is the user that PostgreSQL runs as; 0 means the current one.
func unprivileged() int {
	if os.Getuid() == 0 {
		return nobody
	}
	return 0
}

// ownedBySelf reports whether nobody else could have put files into a directory.
func ownedBySelf(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid() && info.Mode().Perm()&0o022 == 0
}

func closeOnExec(f *os.File) { syscall.CloseOnExec(int(f.Fd())) }

// adoptOrphans makes the grandchildren of this process its children when their
// parent dies: the backends of a killed postmaster stay in sight.
func adoptOrphans() error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	if errno != 0 {
		return fmt.Errorf("become subreaper: %w", errno)
	}
	return nil
}

// reapOrphans collects exit states; the caller has waited for its own children.
func reapOrphans() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
	}
}

// freeSharedMemory removes the segment that a crashed postmaster keeps for the next
// one on the same data: there will be none, and the kernel allows only so many. The
// seventh line of the file is its key and id.
func freeSharedMemory(pidFile string) {
	b, err := os.ReadFile(pidFile)
	lines := bytes.Split(b, []byte("\n"))
	if err != nil || len(lines) < 7 {
		return // a clean end has removed file and segment
	}
	fields := bytes.Fields(lines[6])
	if len(fields) != 2 {
		return
	}
	if id, err := strconv.Atoi(string(fields[1])); err == nil {
		_, _, _ = syscall.Syscall(syscall.SYS_SHMCTL, uintptr(id), ipcRemove, 0) // gone already: what we want
	}
}

func signalAll(pids []int, signal int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.Signal(signal)) // gone already: what we want
	}
}

// stopped reports whether every thread of the processes is stopped, or gone.
func stopped(pids []int) bool {
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/stat", pid))
		for _, path := range threads {
			b, err := os.ReadFile(path)
			if err == nil && !bytes.HasPrefix(b[bytes.LastIndexByte(b, ')')+1:], []byte(" T")) {
				return false
			}
		}
	}
	return true
}

// descendants lists the living processes below root, parents first.
func descendants(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		if pid, parent, ok := parseStat(path); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	var all []int
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// parseStat reads pid and parent; the name before them may hold any character.
func parseStat(path string) (pid, parent int, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false // it ended meanwhile
	}
	pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if err != nil || len(fields) < 2 || string(fields[0]) == "Z" {
		return 0, 0, false
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return pid, parent, err == nil
}
