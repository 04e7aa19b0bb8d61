package sink

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// TestMain keeps rapid from shrinking for half a minute each of the failures
// that the tests of missing rules expect; the flag still overrides it.
func TestMain(m *testing.M) {
	_ = flag.Set("rapid.shrinktime", "1s") // without it the tests are slow, not wrong
	goleak.VerifyTestMain(m)
}
