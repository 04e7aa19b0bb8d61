//go:build !linux

package testenv

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// The servers are Linux programs. Elsewhere the package compiles, for the commands
// that import it, and every start fails at its first lock with ErrUnsupported.

const (
	signalKill = iota
	signalQuit
	signalInt
	signalStop
	signalResume
)

func tryFlock(*os.File) (bool, error) {
	return false, fmt.Errorf("%w: %w", ErrUnsupported, errors.ErrUnsupported)
}

func detached() *syscall.SysProcAttr      { return nil }
func bound(int, int) *syscall.SysProcAttr { return nil }
func unprivileged() int                   { return 0 }
func ownedBySelf(os.FileInfo) bool        { return true }
func closeOnExec(*os.File)                {}
func adoptOrphans() error                 { return errors.ErrUnsupported }
func reapOrphans()                        {}
func signalAll([]int, int)                {}
func freeSharedMemory(string)             {}
func stopped([]int) bool                  { return true }
func descendants(int) []int               { return nil }
