package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes.
type Size int64

var errSize = errors.New("must be a size, such as 512MB, 20GiB or a number of bytes")

// unit is a suffix of a size and its factor.
type unit struct {
	suffix string
	factor int64
}

// units lists the suffixes from the largest down; B, in which all the others end, is the last.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6},
		{"KiB", 1 << 10}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1},
	}
}

// ParseSize reads 20GiB, 512MB or a plain number of bytes.
func ParseSize(text string) (Size, error) {
	factor := int64(1)
	for _, u := range units() {
		if number, found := strings.CutSuffix(text, u.suffix); found {
			text, factor = strings.TrimSpace(number), u.factor
			break
		}
	}
	number, err := strconv.ParseUint(text, 10, 63)
	if err != nil || int64(number) > math.MaxInt64/factor {
		return 0, errSize
	}
	return Size(int64(number) * factor), nil
}

// String returns the shortest exact form.
func (s Size) String() string {
	for _, u := range units() {
		if s >= Size(u.factor) && int64(s)%u.factor == 0 && u.factor > 1 {
			return strconv.FormatInt(int64(s)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
