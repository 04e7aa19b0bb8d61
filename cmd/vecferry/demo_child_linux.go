package main

import "syscall"

// tied keeps the terminal's ^C from a child, and ends it when the thread that
// started it dies.
func tied() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
