package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	errEmpty    = errors.New("is empty; give it a value, or leave the key out")
	errBool     = errors.New("must be true or false")
	errInt      = errors.New("must be a whole number")
	errDuration = errors.New("must be a time with its unit, such as 30m or 1h")
)

// store reads a text as the field's type, checks it, and puts it where the field is. The error says
// what would be right, and never quotes the text.
func (f field) store(text string, into reflect.Value) error {
	if text == "" {
		return errEmpty
	}
	switch f.kind {
	case kindBool:
		if text != "true" && text != "false" {
			return errBool
		}
		into.SetBool(text == "true")
	case kindInt, kindSize, kindDuration:
		return f.storeNumber(text, into)
	case kindSecret:
		return f.storeSecret(text, into)
	case kindRelation:
		r, err := ParseRelation(text)
		if err != nil {
			return err
		}
		into.Set(reflect.ValueOf(r))
	default:
		return f.storeText(text, into)
	}
	return nil
}

func (f field) storeText(text string, into reflect.Value) error {
	if err := f.checkChoice(text); err != nil {
		return err
	}
	if rule, ok := formatOf(f.format); ok && !rule.accepts(text) {
		return errors.New(rule.says)
	}
	into.SetString(text)
	return nil
}

func (f field) storeSecret(text string, into reflect.Value) error {
	secret := NewSecret(text)
	if f.format == "dsn" {
		if err := checkDSN(text); err != nil {
			return err
		}
		secret = NewDSN(text)
	}
	into.Set(reflect.ValueOf(secret))
	return nil
}

func (f field) storeNumber(text string, into reflect.Value) error {
	number, err := f.number(text)
	if err != nil {
		return err
	}
	if err := f.checkChoice(text); err != nil {
		return err
	}
	if !f.inRange(number) {
		return errors.New("must be " + f.limits() + f.usual())
	}
	into.SetInt(number)
	return nil
}

// number reads a text of one of the kinds that are numbers underneath.
func (f field) number(text string) (int64, error) {
	switch f.kind {
	case kindSize:
		size, err := ParseSize(text)
		return int64(size), err
	case kindDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, errDuration
		}
		return int64(d), nil
	default:
		number, err := strconv.ParseInt(text, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrRange) && f.limits() != "":
			return 0, errors.New("must be " + f.limits() + f.usual())
		case err != nil:
			return 0, errInt
		}
		return number, nil
	}
}

func (f field) inRange(number int64) bool {
	low, lowErr := f.number(f.low)
	high, highErr := f.number(f.high)
	return (f.low == "" || lowErr == nil && number >= low) && (f.high == "" || highErr == nil && number <= high)
}

// limits says the range in words.
func (f field) limits() string {
	switch {
	case f.low != "" && f.high != "":
		return "from " + f.low + " to " + f.high
	case f.low != "":
		return "at least " + f.low
	default:
		return ""
	}
}

func (f field) usual() string {
	if f.def == "" {
		return ""
	}
	return " (" + f.def + " is usual)"
}

func (f field) checkChoice(text string) error {
	if len(f.oneOf) == 0 || slices.Contains(f.oneOf, text) {
		return nil
	}
	if len(f.oneOf) == 1 {
		return fmt.Errorf("must be %s", f.oneOf[0])
	}
	says := "must be one of " + strings.Join(f.oneOf, ", ")
	if near, ok := nearest(strings.ToLower(text), lower(f.oneOf)); ok {
		says += "; did you mean " + f.oneOf[slices.Index(lower(f.oneOf), near)] + "?"
	}
	return errors.New(says)
}

func lower(texts []string) []string {
	small := make([]string, len(texts))
	for i, t := range texts {
		small[i] = strings.ToLower(t)
	}
	return small
}

// print is the text of a value as it would stand in the file, secrets masked.
func (f field) print(v reflect.Value) string {
	switch f.kind {
	case kindInt:
		if f.def == "" && v.Int() == 0 {
			return "" // not given
		}
	case kindDuration:
		return printDuration(time.Duration(v.Int()))
	}
	return fmt.Sprint(v.Interface())
}

// printDuration leaves the zero units away: 1h, not 1h0m0s.
func printDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
