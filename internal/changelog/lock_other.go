//go:build !unix

package changelog

import (
	"errors"
	"fmt"
	"os"
)

// lockDir refuses: without a lock that ends with its holder, two servers could
// destroy each other's files.
func lockDir(dir string) (*os.File, error) {
	return nil, fmt.Errorf("embedded change log in %s: no file locks on this system, use an external NATS server: %w", dir, errors.ErrUnsupported)
}
