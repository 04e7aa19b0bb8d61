package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// postgresTemplate is an initialised, never started cluster. Copies of it share a
// system identifier.
func postgresTemplate(ctx context.Context, opts Options, root string, version int) (string, error) {
	dst := filepath.Join(opts.Cache, "template-pg"+strconv.Itoa(version)+"-"+postgresBundle().sha256[:12])
	err := createOnce(ctx, dst, func(tmp string) error {
		return initdb(ctx, root, filepath.Join(tmp, "data"))
	})
	return filepath.Join(dst, "data"), err
}

// copyTree copies directories and files with their modes to another owner.
func copyTree(src, dst string, uid int) error {
	return filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(dst, rel)
		if entry.IsDir() {
			err = os.Mkdir(target, info.Mode().Perm())
		} else {
			err = copyFile(path, target, info.Mode().Perm())
		}
		if err == nil && uid != 0 {
			err = os.Lchown(target, uid, uid)
		}
		return err
	})
}

func copyFile(src, dst string, mode os.FileMode) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in) // copy_file_range: shared blocks where the file system can
	return errors.Join(err, out.Close())
}

// joinEnd ends a server that failed to start, and returns why it did.
func joinEnd(cause error, server *instance) error {
	if err := server.end(); err != nil && !errors.Is(cause, ErrNoGuard) {
		return errors.Join(cause, fmt.Errorf("clean up: %w", err))
	}
	return cause
}
