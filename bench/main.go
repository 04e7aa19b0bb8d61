package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vecferry/vecferry/internal/testenv"
)

// options are the flags.
type options struct {
	cases   []string
	rows    int
	rounds  int
	dim     int
	out     string
	profile string
	peers   bool
	verbose bool
	quick   bool
	metrics bool
	sizes   []int
	txnRows int
	latency time.Duration
	commits int
	config  []string
}

// standard are the cases of a run without -case; the others take long.
func standard() []string { return []string{"copy", "capture", "stream", "scalar", "latency"} }

func main() {
	testenv.Guard()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // the end of a program
	}
}

func parse(args []string, errOut io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errOut)
	names := f.String("case", "", "cases, separated by commas: "+strings.Join(known(), ", ")+" (default "+strings.Join(standard(), ",")+")")
	growth := f.Bool("growth", false, "add the case growth, which takes long")
	txn := f.Bool("txn", false, "add the case txn: one transaction of -txn-rows rows")
	f.IntVar(&o.rows, "rows", 50000, "rows of a table, and changes of a backlog")
	f.IntVar(&o.rounds, "rounds", 3, "rounds; figures are their medians")
	f.IntVar(&o.dim, "dim", 1536, "dimensions of a vector")
	f.StringVar(&o.out, "out", "", "file for the results (default bench/RESULTS.md if all standard cases run, else none)")
	f.StringVar(&o.profile, "profile", "", "folder for CPU profiles of vecferry, one a measurement")
	f.BoolVar(&o.peers, "peers", os.Getenv("PEERS") == "1", "copy with the plain Python script as well (also PEERS=1)")
	f.BoolVar(&o.verbose, "v", false, "show vecferry's log")
	f.BoolVar(&o.metrics, "metrics", false, "show what moved in vecferry's metrics during each measurement")
	f.BoolVar(&o.quick, "quick", false, "floors write 1,000 rows on 4 lanes, instead of the fastest way of all: to try the program, not for figures")
	f.IntVar(&o.txnRows, "txn-rows", 100000, "rows of the one transaction of the case txn")
	f.DurationVar(&o.latency, "latency", 15*time.Second, "length of one measurement of the case latency")
	f.IntVar(&o.commits, "commits", 20, "commits a second of the case latency")
	f.Func("set", "configuration of vecferry, such as sink.lanes=4; may be repeated", func(s string) error {
		o.config = append(o.config, s)
		return nil
	})
	sizes := f.String("sizes", "10000,100000,500000", "table sizes of the case growth, at 128 dimensions")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.cases = standard()
	if *names != "" {
		o.cases = strings.Split(*names, ",")
	}
	if *txn && !slices.Contains(o.cases, "txn") {
		o.cases = append(o.cases, "txn")
	}
	if *growth && !slices.Contains(o.cases, "growth") {
		o.cases = append(o.cases, "growth")
	}
	for s := range strings.SplitSeq(*sizes, ",") {
		var n int
		if _, err := fmt.Sscan(s, &n); err != nil || n < 100 {
			return o, fmt.Errorf("-sizes: %q is no number of at least 100 rows", s)
		}
		o.sizes = append(o.sizes, n)
	}
	return o, o.check()
}

func (o *options) check() error {
	for _, name := range o.cases {
		if !slices.Contains(known(), name) {
			return fmt.Errorf("-case: there is no %q, but %s", name, strings.Join(known(), ", "))
		}
	}
	if o.rows < 1000 || o.rounds < 1 || o.dim < 8 {
		return errors.New("at least -rows 1000, -rounds 1 and -dim 8")
	}
	complete := true
	for _, name := range standard() {
		complete = complete && slices.Contains(o.cases, name)
	}
	if o.out == "" && complete {
		o.out = "bench/RESULTS.md"
	}
	return nil
}

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	o, err := parse(args, errOut)
	if err != nil {
		return err
	}
	b := &bench{options: o, log: errOut}
	defer b.close()
	if err := b.open(ctx); err != nil {
		return err
	}
	for _, name := range o.cases {
		b.say("case %s", name)
		if err := cases()[name](ctx, b); err != nil {
			return fmt.Errorf("case %s: %w", name, err)
		}
	}
	return b.publish(out)
}

// cases are the measurements by name.
func cases() map[string]func(context.Context, *bench) error {
	return map[string]func(context.Context, *bench) error{
		"copy": copyCase, "capture": captureCase, "stream": streamCase, "scalar": scalarCase,
		"latency": latencyCase, "txn": txnCase, "growth": growthCase,
	}
}

func known() []string { return append(standard(), "txn", "growth") }

// publish writes the results for people, to the output and to a file.
func (b *bench) publish(out io.Writer) error {
	text := b.results()
	if _, err := io.WriteString(out, text); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	if b.out == "" {
		return nil
	}
	if err := os.WriteFile(b.out, []byte(text), 0o644); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	return nil
}
