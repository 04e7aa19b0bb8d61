package snapshot_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/vecferry/vecferry/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Guard()
	goleak.VerifyTestMain(m)
}
