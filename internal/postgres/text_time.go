package postgres

import (
	"encoding/binary"
	"math"
	"strconv"
)

const (
	microsPerSecond = 1_000_000
	microsPerMinute = 60 * microsPerSecond
	microsPerHour   = 60 * microsPerMinute
	microsPerDay    = 24 * microsPerHour

	// PostgreSQL counts from 2000-01-01.
	epochDays   = 10957
	epochMicros = epochDays * microsPerDay
)

// appendInfinity appends the name of the extreme values that stand for
// infinity.
func appendInfinity(dst []byte, positive bool) []byte {
	if positive {
		return append(dst, "infinity"...)
	}
	return append(dst, "-infinity"...)
}

func outputDate(dst, b []byte) ([]byte, error) {
	if len(b) != 4 {
		return dst, corruptf("date of %d bytes", len(b))
	}
	days := int32(binary.BigEndian.Uint32(b))
	if days == math.MaxInt32 || days == math.MinInt32 {
		return appendInfinity(dst, days > 0), nil
	}
	dst, bc := appendDate(dst, int64(days)+epochDays)
	return appendEra(dst, bc), nil
}

// appendDate appends the date of a day since 1970 and reports whether it lies
// before Christ, which is said at the end of the whole.
func appendDate(dst []byte, days int64) (_ []byte, bc bool) {
	year, month, day := civil(days)
	if bc = year <= 0; bc {
		year = 1 - year
	}
	dst = appendPadded(dst, int(year), 4)
	dst = appendPadded(append(dst, '-'), month, 2)
	return appendPadded(append(dst, '-'), day, 2), bc
}

func appendEra(dst []byte, bc bool) []byte {
	if bc {
		return append(dst, " BC"...)
	}
	return dst
}

// civil turns days since 1970-01-01 into a date of the Gregorian calendar,
// extended backwards, with a year 0. The year is taken to start in March, so
// that the leap day is its last.
func civil(days int64) (year int64, month, day int) {
	days += 719468 // since 0000-03-01
	era := floorDiv(days, 146097)
	doe := days - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy-(153*mp+2)/5) + 1
	month = int(mp) + 3
	year = yoe + era*400
	if month > 12 {
		month, year = month-12, year+1
	}
	return year, month, day
}

// daysOf is the inverse of civil.
func daysOf(year int64, month, day int) int64 {
	mp := int64(month) - 3
	if mp < 0 {
		mp, year = mp+12, year-1
	}
	era := floorDiv(year, 400)
	yoe := year - era*400
	doy := (153*mp+2)/5 + int64(day) - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// appendClock appends HH:MM:SS with as many decimals as needed.
func appendClock(dst []byte, micros uint64) []byte {
	dst = appendUnit(dst, micros/microsPerHour)
	dst = appendUnit(append(dst, ':'), micros/microsPerMinute%60)
	dst = appendUnit(append(dst, ':'), micros/microsPerSecond%60)
	rest := int(micros % microsPerSecond)
	if rest == 0 {
		return dst
	}
	dst = appendPadded(append(dst, '.'), rest, 6)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func appendUnit(dst []byte, v uint64) []byte {
	if v < 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendUint(dst, v, 10)
}

func outputTime(dst, b []byte) ([]byte, error) {
	if len(b) != 8 {
		return dst, corruptf("time of %d bytes", len(b))
	}
	return appendClock(dst, binary.BigEndian.Uint64(b)), nil
}

// outputTimeTZ prints int64 microseconds and int32 seconds west of UTC.
func outputTimeTZ(dst, b []byte) ([]byte, error) {
	if len(b) != 12 {
		return dst, corruptf("timetz of %d bytes", len(b))
	}
	dst = appendClock(dst, binary.BigEndian.Uint64(b))
	return appendZone(dst, int64(int32(binary.BigEndian.Uint32(b[8:])))), nil
}

// appendZone appends +HH, +HH:MM or +HH:MM:SS.
func appendZone(dst []byte, west int64) []byte {
	sign := byte('+')
	if west > 0 {
		sign = '-'
	}
	seconds := magnitude(west)
	dst = appendUnit(append(dst, sign), seconds/3600)
	if seconds%3600 != 0 {
		dst = appendUnit(append(dst, ':'), seconds/60%60)
	}
	if seconds%60 != 0 {
		dst = appendUnit(append(dst, ':'), seconds%60)
	}
	return dst
}

// magnitude returns |v|, of the smallest integer too.
func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

func outputTimestamp(dst, b []byte) ([]byte, error) { return appendTimestamp(dst, b, "") }

// outputTimestampTZ prints in the session's time zone, which is UTC.
func outputTimestampTZ(dst, b []byte) ([]byte, error) { return appendTimestamp(dst, b, "+00") }

func appendTimestamp(dst, b []byte, zone string) ([]byte, error) {
	if len(b) != 8 {
		return dst, corruptf("timestamp of %d bytes", len(b))
	}
	micros := int64(binary.BigEndian.Uint64(b))
	if micros == math.MaxInt64 || micros == math.MinInt64 {
		return appendInfinity(dst, micros > 0), nil
	}
	days := floorDiv(micros, microsPerDay)
	dst, bc := appendDate(dst, days+epochDays)
	dst = appendClock(append(dst, ' '), uint64(micros-days*microsPerDay))
	return appendEra(append(dst, zone...), bc), nil
}

// outputInterval prints int64 microseconds, int32 days and int32 months in
// IntervalStyle postgres (PostgreSQL source, EncodeInterval).
func outputInterval(dst, b []byte) ([]byte, error) {
	if len(b) != 16 {
		return dst, corruptf("interval of %d bytes", len(b))
	}
	p := intervalPrinter{dst: dst, empty: true}
	micros := int64(binary.BigEndian.Uint64(b))
	days := int32(binary.BigEndian.Uint32(b[8:]))
	months := int32(binary.BigEndian.Uint32(b[12:]))
	if infinite, positive := infiniteInterval(micros, days, months); infinite {
		return appendInfinity(dst, positive), nil
	}
	p.part(months/12, "year")
	p.part(months%12, "mon")
	p.part(days, "day")
	p.clock(micros)
	return p.dst, nil
}

// infiniteInterval knows the infinities of version 17.
func infiniteInterval(micros int64, days, months int32) (infinite, positive bool) {
	positive = micros == math.MaxInt64 && days == math.MaxInt32 && months == math.MaxInt32
	negative := micros == math.MinInt64 && days == math.MinInt32 && months == math.MinInt32
	return positive || negative, positive
}

type intervalPrinter struct {
	dst    []byte
	empty  bool
	before bool // the last part was negative: a positive one needs its sign
}

func (p *intervalPrinter) part(v int32, unit string) {
	if v == 0 {
		return
	}
	if !p.empty {
		p.dst = append(p.dst, ' ')
	}
	if p.before && v > 0 {
		p.dst = append(p.dst, '+')
	}
	p.dst = strconv.AppendInt(p.dst, int64(v), 10)
	p.dst = append(append(p.dst, ' '), unit...)
	if v != 1 {
		p.dst = append(p.dst, 's')
	}
	p.before, p.empty = v < 0, false
}

func (p *intervalPrinter) clock(micros int64) {
	if micros == 0 && !p.empty {
		return
	}
	if !p.empty {
		p.dst = append(p.dst, ' ')
	}
	switch {
	case micros < 0:
		p.dst = append(p.dst, '-')
	case p.before:
		p.dst = append(p.dst, '+')
	}
	p.dst = appendClock(p.dst, magnitude(micros))
}
