//go:build !linux

package main

import "syscall"

// tied has nothing to do: the servers of the demonstration run on Linux only.
func tied() *syscall.SysProcAttr { return nil }
