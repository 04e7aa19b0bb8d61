package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// page is the text of a demonstration: plain lines that are never redrawn, so that
// a terminal and a log of CI show the same.
type page struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
	steps int
	begun time.Time // the present step
}

func newPage(w io.Writer) *page { return &page{w: w, start: time.Now()} }

const (
	pageWidth = 100
	indent    = "   "
)

// line writes one indented line.
func (p *page) line(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, strings.TrimRight(indent+fmt.Sprintf(format, a...), " "))
}

// tick writes a line with the time since the step began.
func (p *page) tick(format string, a ...any) {
	p.mu.Lock()
	at := time.Since(p.begun)
	p.mu.Unlock()
	p.line("%6s   %s", seconds(at), fmt.Sprintf(format, a...))
}

// gap writes an empty line.
func (p *page) gap() { p.line("") }

func (p *page) title(o demoOptions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "vecferry demo: a live table of %s documents goes from PostgreSQL to Milvus, on real servers.\n", thousands(int64(o.rows)))
}

// step begins the next step: what is done, when, and what it shows.
func (p *page) step(what, shows string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps, p.begun = p.steps+1, time.Now()
	head := fmt.Sprintf("%d. %s", p.steps, what)
	at := fmt.Sprintf("%.1f s", time.Since(p.start).Seconds())
	fmt.Fprintf(p.w, "\n%s %s %s\n%s%s\n\n", head, strings.Repeat("-", max(1, pageWidth-len(head)-len(at)-2)), at, indent, shows)
}

// pairs writes names and values, one pair a line.
func (p *page) pairs(all ...string) {
	for i := 0; i+1 < len(all); i += 2 {
		p.line("%-13s %s", all[i], all[i+1])
	}
}

// block writes the lines of a text, further indented.
func (p *page) block(text string) {
	for line := range strings.Lines(text) {
		p.line("   %s", strings.TrimRight(line, "\n"))
	}
}

// took is the time since the demonstration began.
func (p *page) took() time.Duration { return time.Since(p.start) }

// failed reports why it ends.
func (p *page) failed(w io.Writer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(w, "\ndemo: failed in step %d after %.0f s: %v\n", p.steps, time.Since(p.start).Seconds(), err)
}

// thousands writes a number with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func millis(d time.Duration) string { return thousands(d.Milliseconds()) + " ms" }

// clip cuts a text to so many characters.
func clip(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// lastLines returns the end of a text file, indented.
func lastLines(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return indent + err.Error() + "\n"
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	lines = lines[max(0, len(lines)-n):]
	return indent + strings.Join(lines, "\n"+indent) + "\n"
}
