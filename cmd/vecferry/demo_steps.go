package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/vecferry/vecferry"
	"github.com/vecferry/vecferry/internal/demo"
	"github.com/vecferry/vecferry/verify"
)

// copyTable starts vecferry on the live table and shows the copy.
func (d *demonstration) copyTable(ctx context.Context) error {
	d.page.step("Start vecferry: copy the table while the application writes", "A live table is copied without a pause, and what changes meanwhile is carried along.")
	d.writer = demo.NewWriter(demo.WriterOptions{DSN: d.dsn, Docs: d.docs, Seed: uint64(time.Now().UnixNano())})
	d.later(d.endFerry)
	d.startWriter(ctx)
	start := time.Now()
	if err := d.ferry.start(ctx); err != nil {
		return err
	}
	r, err := d.showCopy(ctx)
	if err != nil {
		return err
	}
	took, w := time.Since(start), d.writer.Work()
	if err := d.caughtUp(ctx, "everything committed during the copy to be in Milvus"); err != nil {
		return err
	}
	d.page.gap()
	d.page.line("%s rows copied in %s, from the start of the program; everything committed meanwhile followed %s later.",
		thousands(theTable(r).CopiedRows), seconds(took), seconds(time.Since(start)-took))
	d.showWork("Meanwhile the application did", w)
	return nil
}

// showCopy prints how far the copy is until the table is live.
func (d *demonstration) showCopy(ctx context.Context) (last Report, err error) {
	const every = 300 * time.Millisecond
	var shown ReportTable
	var next time.Time
	err = d.until(ctx, "the copy", 2*time.Minute, func(ctx context.Context) (bool, string) {
		r, err := fetchStatus(ctx, d.cfg.HTTP)
		if err != nil || theTable(r).Estimated == 0 {
			return false, "vecferry is starting"
		}
		last = r
		t, live := theTable(r), allLive(r)
		if news := t.CopiedRows != shown.CopiedRows || t.State != shown.State; live || news && time.Now().After(next) {
			d.page.tick("%-10s %6s of about %s rows", t.State, thousands(t.CopiedRows), thousands(t.Estimated))
			shown, next = t, time.Now().Add(every)
		}
		return live, describe(r)
	})
	return last, err
}

// theTable is the status of the only table, empty while vecferry starts.
func theTable(r Report) ReportTable {
	if len(r.Tables) == 0 {
		return ReportTable{}
	}
	return r.Tables[0]
}

// lastHop is the way from the change log to Milvus.
func lastHop(r Report) ReportHop {
	if len(r.Hops) == 0 {
		return ReportHop{}
	}
	return r.Hops[len(r.Hops)-1]
}

// showWork prints what the application did.
func (d *demonstration) showWork(lead string, w demo.Work) {
	d.page.line("%s %s transactions, and rolled back %s. Of %s changes were", lead, thousands(w.Transactions), thousands(w.RolledBack), thousands(w.Changes()))
	d.page.line("%s inserts, %s updates, %s new vectors, %s deletes and %s changes of the key.", thousands(w.Inserts),
		thousands(w.Updates), thousands(w.Embeddings), thousands(w.Deletes), thousands(w.Rekeys))
}

// eyes let the data side look at the pipeline.
type eyes struct{ d *demonstration }

// Positions implements demo.Pipeline.
func (e eyes) Positions(ctx context.Context) (logged, applied vecferry.LSN, err error) {
	r, err := fetchStatus(ctx, e.d.cfg.HTTP)
	if err != nil {
		return 0, 0, err
	}
	for _, h := range r.Hops {
		switch h.Hop {
		case "capture":
			logged = h.Position
		case "sink":
			applied = h.Position
		}
	}
	return logged, applied, nil
}

// candidates are those that a search in the HNSW index looks at.
const candidates = 128

// Search implements demo.Pipeline; the titles are those that Milvus has.
func (e eyes) Search(ctx context.Context, vector []float32, k int) ([]demo.Hit, error) {
	found, err := e.d.collection.Search(ctx, vector, k, candidates, "")
	if err != nil {
		return nil, err
	}
	hits := make([]demo.Hit, len(found))
	for i, h := range found {
		hits[i] = demo.Hit{ID: h.Key.Int(), Score: float64(h.Score)}
	}
	return hits, nil
}

// titles fills in the titles that the entities in Milvus have.
func (e eyes) titles(ctx context.Context, hits []demo.Hit) error {
	keys := make([]vecferry.Key, len(hits))
	for i, h := range hits {
		keys[i] = vecferry.IntKey(h.ID)
	}
	rows, err := e.d.collection.Read(ctx, keys)
	if err != nil {
		return err
	}
	title := slices.IndexFunc(e.d.table.Fields, func(f vecferry.Field) bool { return f.Column == "title" })
	for i, k := range keys {
		if row, ok := rows[k]; ok {
			hits[i].Title = row.Values[title].Text()
		}
	}
	return nil
}

const trips = 5

// followRows shows how long single rows take to be found.
func (d *demonstration) followRows(ctx context.Context) error {
	d.page.step("Follow single rows from their commit to a search", "A committed row is found a moment later, while the application goes on writing.")
	before, start := d.writer.Work(), time.Now()
	d.page.line("%8s   %15s   %11s   %19s", "row", "in the change log", "in Milvus", "first hit of a search")
	var all []time.Duration
	for i := range trips {
		trip, err := d.travel(ctx, i)
		if err != nil {
			return err
		}
		d.page.line("%8s   %17s   %11s   %21s", thousands(trip.ID), millis(trip.Logged), millis(trip.Applied), millis(trip.Found))
		all = append(all, trip.Found)
	}
	slices.Sort(all)
	w := d.writer.Work().Since(before)
	d.page.gap()
	d.page.line("Counted from the return of the commit: the median is %s. Meanwhile the application changed %.0f rows/s.",
		millis(all[len(all)/2]), float64(w.Changes())/time.Since(start).Seconds())
	return d.showLag(ctx)
}

// showLag prints what vecferry itself says about how far it is behind.
func (d *demonstration) showLag(ctx context.Context) error {
	r, err := fetchStatus(ctx, d.cfg.HTTP)
	if err != nil {
		return err
	}
	h := lastHop(r)
	d.page.line("The status on http://%s says: %s, %s changes and %.1f s behind.", d.cfg.HTTP.Listen, r.State, thousands(h.LagRows), h.LagSeconds)
	return nil
}

func (d *demonstration) travel(ctx context.Context, i int) (demo.Trip, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("a row takes over a minute: %w", errWaitOver))
	defer cancel()
	day := []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}[i%trips]
	return demo.Travel(ctx, d.db, demo.Document{
		WorkspaceID: "harbour", Title: "Logbook of the ferry, " + day,
		Content:   fmt.Sprintf("%s: heron on the jetty, %d blue barges moored, fog until noon, two goats and a piano crossed over.", day, 17+i),
		Metadata:  map[string]any{"weather": "fog"},
		UpdatedAt: time.Now(),
	}, eyes{d})
}

// questions are asked of both stores; the first is shown.
func questions() []string {
	return []string{
		"wait for a group of goroutines",
		"decode a JSON document",
		"constant time comparison",
		"open a file for reading",
		"listen on a TCP address and serve HTTP requests",
	}
}

const (
	answers    = 5
	answerTime = time.Minute // for a question, from servers that may be busy
)

// askBoth asks both stores the same, while nobody writes: else they are asked at
// two moments.
func (d *demonstration) askBoth(ctx context.Context) error {
	d.page.step("Ask both stores the same", "Milvus finds what an exact search in PostgreSQL finds, with the same scores.")
	if err := d.stopWriter(); err != nil {
		return err
	}
	if err := d.caughtUp(ctx, "everything committed to be in Milvus"); err != nil {
		return err
	}
	same, all := 0, 0
	for i, q := range questions() {
		source, target, err := d.ask(ctx, q)
		if err != nil {
			return err
		}
		if i == 0 {
			d.page.line("%q, the writer pauses", q)
			d.page.gap()
			d.showHits(source, target)
		}
		same, all = same+demo.Common(source, target), all+len(source)
	}
	d.page.gap()
	d.page.line("%d questions, the first %d hits of each: %d of %d are the same in both stores.", len(questions()), answers, same, all)
	if same*2 < all {
		return fmt.Errorf("the stores agree on %d of %d hits only", same, all)
	}
	d.startWriter(ctx)
	return nil
}

func (d *demonstration) ask(ctx context.Context, question string) (source, target []demo.Hit, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, errWaitOver)
	defer cancel()
	vector := demo.Embed(question)
	if source, err = demo.Nearest(ctx, d.db, vector, answers); err != nil {
		return nil, nil, err
	}
	if target, err = (eyes{d}).Search(ctx, vector, answers); err != nil {
		return nil, nil, err
	}
	return source, target, eyes{d}.titles(ctx, target)
}

func (d *demonstration) showHits(source, target []demo.Hit) {
	const width = 36
	d.page.line("   %-*s %7s    %-*s %7s", width, "PostgreSQL", "score", width, "Milvus", "score")
	for i := range max(len(source), len(target)) {
		var a, b demo.Hit
		if i < len(source) {
			a = source[i]
		}
		if i < len(target) {
			b = target[i]
		}
		d.page.line("%d  %-*s %7.4f    %-*s %7.4f", i+1, width, clip(a.Title, width), a.Score, width, clip(b.Title, width), b.Score)
	}
}

// compare stops the application and compares every row.
func (d *demonstration) compare(ctx context.Context) error {
	d.page.step("Stop the application, compare every row", "After all this both stores hold the same rows: every column, and every bit of every vector.")
	if err := d.stopWriter(); err != nil {
		return err
	}
	if err := d.caughtUp(ctx, "everything committed to be in Milvus"); err != nil {
		return err
	}
	d.showWork("The application did", d.writer.Work())
	d.page.line("Now each row is read from both stores.")
	d.page.gap()
	ctx, cancel := context.WithTimeoutCause(ctx, compareTime, errWaitOver)
	defer cancel()
	start := time.Now()
	res, err := verify.Compare(ctx, d.table, rowSource{d.source}, d.collection)
	if err != nil {
		return err
	}
	if err := d.judge(res); err != nil {
		return err
	}
	d.page.line("%s rows: all equal, every bit of every vector; count(*) equal. Compared in %s.", thousands(res.Equal), seconds(time.Since(start)))
	return d.finish()
}

const compareTime = 3 * time.Minute

// judge prints what was compared; a difference is an error.
func (d *demonstration) judge(res verify.Result) error {
	d.page.pairs("PostgreSQL", thousands(res.Rows+res.Nulls)+" rows", "Milvus", thousands(res.Entities)+" entities, by count(*)",
		"equal", thousands(res.Equal), "different", thousands(res.Different))
	d.page.gap()
	if res.OK() && res.Nulls == 0 {
		return nil
	}
	for _, diff := range res.Differences {
		d.page.line("%s: key %s %s: want %s, have %s", diff.Kind, diff.Key.Format(d.table.KeyType), diff.Field, diff.Want, diff.Have)
	}
	return fmt.Errorf("the stores differ: %s", res)
}

// finish stops vecferry as one would, unless it is to keep running.
func (d *demonstration) finish() error {
	if !d.o.keep {
		start := time.Now()
		if err := d.ferry.end(syscall.SIGTERM, 30*time.Second); err != nil {
			return err
		}
		d.page.line("vecferry was told to stop and ended by itself after %s.", seconds(time.Since(start)))
	}
	d.page.gap()
	d.page.line("All of it took %s.", seconds(d.page.took()))
	return nil
}
