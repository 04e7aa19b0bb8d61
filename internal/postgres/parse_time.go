package postgres

import (
	"math"
	"strconv"
	"strings"

	"github.com/vecferry/vecferry"
)

// unixMicros turns the wire's microseconds since 2000 into those since 1970.
// The extreme values stay: they stand for infinity.
func unixMicros(v int64) (int64, error) {
	if v == math.MaxInt64 || v == math.MinInt64 {
		return v, nil
	}
	if v >= math.MaxInt64-epochMicros {
		return 0, valueError("the time lies after the year 294246, the last that microseconds since 1970 can count")
	}
	return v + epochMicros, nil
}

// readMicros returns the microseconds since 1970 of a timestamp in either
// format.
func readMicros(c vecferry.Column) (int64, error) {
	if c.Kind == vecferry.ColumnText {
		return parseMicros(string(c.Data))
	}
	v, err := readInt(c.Data)
	if err != nil {
		return 0, err
	}
	return unixMicros(v)
}

// parseMicros reads the print of a timestamp: YYYY-MM-DD HH:MM:SS[.f][zone][ BC].
func parseMicros(s string) (int64, error) {
	switch s {
	case "infinity":
		return math.MaxInt64, nil
	case "-infinity":
		return math.MinInt64, nil
	}
	rest, bc := strings.CutSuffix(s, " BC")
	date, clock, ok := strings.Cut(rest, " ")
	days, dateOK := parseDate(date, bc)
	micros, clockOK := parseClockZone(clock)
	if !ok || !dateOK || !clockOK {
		return 0, corruptf("timestamp %q", s)
	}
	return unixMicros((days-epochDays)*microsPerDay + micros)
}

func parseDate(s string, bc bool) (days int64, ok bool) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return 0, false
	}
	n, ok := numbers(parts)
	if !ok || n[0] > 300000 {
		return 0, false
	}
	if bc {
		n[0] = 1 - n[0]
	}
	return daysOf(n[0], int(n[1]), int(n[2])), true
}

// parseClockZone reads HH:MM:SS[.f][+-HH[:MM[:SS]]] as microseconds of the day
// in UTC.
func parseClockZone(s string) (micros int64, ok bool) {
	var west int64
	if i := strings.IndexAny(s, "+-"); i >= 0 {
		west, ok = parseSeconds(s[i+1:])
		if !ok {
			return 0, false
		}
		if s[i] == '+' {
			west = -west
		}
		s = s[:i]
	}
	clock, fraction, _ := strings.Cut(s, ".")
	seconds, ok := parseSeconds(clock)
	f, err := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	return (seconds+west)*microsPerSecond + f, ok && err == nil
}

// parseSeconds reads HH[:MM[:SS]].
func parseSeconds(s string) (int64, bool) {
	n, ok := numbers(strings.Split(s, ":"))
	if !ok || len(n) > 3 {
		return 0, false
	}
	n = append(n, 0, 0)
	return n[0]*3600 + n[1]*60 + n[2], true
}

func numbers(parts []string) ([]int64, bool) {
	out := make([]int64, len(parts))
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return nil, false
		}
		out[i] = int64(v)
	}
	return out, true
}
