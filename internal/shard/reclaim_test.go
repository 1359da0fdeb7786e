package shard

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/grace"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// atLimit is a table that may map some arenas, to which nobody but requests comes.
func atLimit(t *testing.T, arenas int) *Table {
	t.Helper()
	g, err := arena.NewGeometry(arena.DefaultBytes)
	if err != nil {
		t.Fatal(err)
	}
	table, err := Open(Config{
		Geometry: g, LimitBytes: uint64(arenas * g.Bytes), RetainBytes: 64 << 20, RetainDelay: 24 * time.Hour,
	}, &View{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

// request asks for size bytes.
func request(table *Table, size int) (unsafe.Pointer, error) {
	if c, ok := sizeclass.Aligned(size, 1); ok {
		p, _, err := table.Alloc(nil, c)
		return p, err
	}
	p, _, err := table.AllocLarge(size, 1)
	return p, err
}

// fillUp takes blocks until there is no room.
func fillUp(t *testing.T, table *Table, size func() int) (ps []unsafe.Pointer) {
	t.Helper()
	for {
		p, err := request(table, size())
		if err == arena.ErrLimit {
			return ps
		}
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

func free(t *testing.T, table *Table, p unsafe.Pointer) {
	t.Helper()
	if v := table.Free(nil, p); v != Freed {
		t.Fatalf("Free: %v", v)
	}
}

// onOneP runs a test of where blocks lie on one P.
func onOneP(t *testing.T) {
	t.Helper()
	n := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(n) })
}

// onOneShard runs a test on one shard. It skips the test where shards are chosen by the
// address of the stack: a goroutine may use two then, and leave most of a pool free.
func onOneShard(t *testing.T) {
	t.Helper()
	if !grace.Pinned {
		t.Skip("a goroutine may use two shards")
	}
	onOneP(t)
}

// tries returns how often a table has given back what was idle for a request.
func (t *Table) tries() uint32 { return t.reclaims.tries.Load() / 2 }

// Requests that are refused give back what is idle once, and again when something
// was freed since.
func TestRefusedAgain(t *testing.T) {
	onOneShard(t)
	table := atLimit(t, 4)
	ps := fillUp(t, table, func() int { return 1000 })
	refuse := func() {
		t.Helper()
		for i := range 1000 {
			for _, size := range []int{1000, 8000, 30_000, 300_000, 900_000} {
				if _, err := request(table, size); err != arena.ErrLimit {
					t.Fatalf("request %d of %d bytes: %v, want ErrLimit", i, size, err)
				}
			}
		}
	}
	refuse()
	if n := table.tries(); n != 1 {
		t.Errorf("%d tries for requests that were refused one after the other, want 1", n)
	}
	const freed = 4 // of one pool: so many that it is somebody's again
	for _, p := range ps[:freed] {
		free(t, table, p)
	}
	if _, err := request(table, 8000); err != arena.ErrLimit {
		t.Fatal(err)
	}
	if n := table.tries(); n != 2 {
		t.Errorf("%d tries, want 2: blocks were freed since the first", n)
	}
	for range freed {
		if _, err := request(table, 1000); err != nil {
			t.Fatal("there is a free block of this size: ", err)
		}
	}
	refuse()
	if n := table.tries(); n > 3 {
		t.Errorf("%d tries, want 3: blocks were taken since the second", n)
	}
}

// Who frees random blocks until there is room frees at most twice as many as when
// every request tries, and few of its requests do.
func TestFreeUntilThereIsRoom(t *testing.T) {
	onOneP(t)
	run := func(always bool, want int) (frees int, tries uint32) {
		table := atLimit(t, 4)
		r := rand.New(rand.NewPCG(1, 2))
		ps := fillUp(t, table, func() int { return 400 + r.IntN(600) })
		r.Shuffle(len(ps), func(i, k int) { ps[i], ps[k] = ps[k], ps[i] })
		before := table.tries()
		for {
			if always {
				table.reclaims.enough.Store(0)
			}
			if _, err := request(table, want); err == nil {
				return frees, table.tries() - before
			}
			if frees == len(ps) {
				t.Fatalf("no room for %d bytes after all was freed", want)
			}
			free(t, table, ps[frees])
			frees++
		}
	}
	for _, want := range []int{2000, 30_000, 900_000} {
		least, all := run(true, want)
		frees, tries := run(false, want)
		t.Logf("%d bytes: %d frees and %d tries; %d and %d if every request tries", want, frees, tries, least, all)
		if frees > 2*least+1 {
			t.Errorf("%d bytes: room after %d frees, there was some after %d", want, frees, least)
		}
		if all > 1000 && 10*tries > all {
			t.Errorf("%d bytes: %d tries in %d frees, %d if every request tries", want, tries, frees, all)
		}
	}
}

// However many tries were in vain, what is freed at once is found.
func TestFreedIsFound(t *testing.T) {
	for name, c := range map[string]struct{ full, want int }{
		"small for small": {64, 500},
		"small for pools": {64, 30_000},
		"small for runs":  {64, 300_000},
		"small for huge":  {64, 900_000},
		"pools for runs":  {30_000, 500_000},
		"pools for huge":  {30_000, 900_000},
		"runs for huge":   {200_000, 900_000},
		"huge for small":  {600_000, 64},
		"huge for pools":  {600_000, 30_000},
		"huge for others": {600_000, 900_000},
	} {
		t.Run(name, func(t *testing.T) {
			table := atLimit(t, 2)
			ps := fillUp(t, table, func() int { return c.full })
			table.reclaims.enough.Store(maxStirs)
			for _, p := range ps {
				free(t, table, p)
			}
			before := table.tries()
			if _, err := request(table, c.want); err != nil {
				t.Errorf("all was freed, and there is no room for %d bytes: %v", c.want, err)
			}
			if n := table.reclaims.enough.Load(); table.tries() > before && n != 1 {
				t.Errorf("after a try that helped the next waits for %d stirs, want 1", n)
			}
		})
	}
}

// A mapping that was freed, or an arena, is found by who needs the other, however
// much else is in use.
func TestFreeMappingsAndArenasAreFound(t *testing.T) {
	for name, c := range map[string]struct{ full, want int }{
		"huge for a pool": {900_000, 30_000},
		"huge for a run":  {900_000, 300_000},
		"runs for huge":   {114_000, 900_000}, // of 7 units, so that they fill an arena
	} {
		t.Run(name, func(t *testing.T) {
			table := atLimit(t, 6)
			for range 4 << 20 / 500 {
				if _, err := request(table, 500); err != nil {
					t.Fatal(err)
				}
			}
			ps := fillUp(t, table, func() int { return c.full })
			fillUp(t, table, func() int { return 500 })
			table.reclaims.enough.Store(maxStirs)
			for _, p := range ps {
				free(t, table, p)
			}
			if _, err := request(table, c.want); err != nil {
				t.Errorf("%d blocks of %d bytes were freed, and there is no room for %d: %v", len(ps), c.full, c.want, err)
			}
		})
	}
}

// What is freed on the fast path since a try, of a pool that the shard got by a
// malloc, is found too.
func TestFastFreesAreFound(t *testing.T) {
	onOneShard(t)
	table := atLimit(t, 1)
	ps := fillUp(t, table, func() int { return 1000 })
	for _, p := range ps[:4] { // of one pool: so many that it is somebody's again
		free(t, table, p)
	}
	if _, err := request(table, 500); err != arena.ErrLimit { // a try: it is nobody's
		t.Fatal(err)
	}
	for i := range 4 {
		p, err := request(table, 1000)
		if err != nil {
			t.Fatal(err)
		}
		ps[i] = p
	}
	tries := table.tries()
	h := table.Arenas.PoolOf(ps[0])
	for _, p := range ps[:h.Blocks()] {
		token := Enter()
		s, _ := table.view.Take(token)
		mine := s != nil && s.OwnsQuiet(h) && table.Arenas.PoolOf(p) == h
		tripped := mine && h.Push(h.Index(p))
		Exit(s, token)
		if !mine || tripped {
			t.Skip("the goroutine has moved, or the pool is laid out otherwise")
		}
	}
	if _, err := request(table, 500); err != nil {
		t.Errorf("a pool is empty, and there is no room for another class: %v", err)
	}
	if n := table.tries(); n != tries+1 {
		t.Errorf("%d tries since the pool was got, want 1", n-tries)
	}
}

// A request that finds no room while another makes a try waits for it, and looks
// again, whether the try has begun before the request or after.
func TestReclaimTogether(t *testing.T) {
	for _, begunBefore := range []bool{true, false} {
		table := atLimit(t, 1)
		ps := fillUp(t, table, func() int { return 900 })
		tries := table.tries()
		r := &table.reclaims
		r.enough.Store(maxStirs)
		for _, p := range ps {
			free(t, table, p)
		}
		begin := func() {
			r.tries.Add(1)
			r.stirs.Store(0)
		}
		table.trimming.Lock()
		if begunBefore {
			begin()
		}
		got := make(chan error)
		go func() {
			_, err := request(table, 400_000)
			got <- err
		}()
		time.Sleep(20 * time.Millisecond) // it waits by then; if not, it finds room at once
		if !begunBefore {
			begin()
		}
		if err := table.trim(true); err != nil {
			t.Error(err)
		}
		r.tries.Add(1)
		table.trimming.Unlock()
		if err := <-got; err != nil {
			t.Errorf("begun before %v: %v, and there is room", begunBefore, err)
		}
		if n := table.tries(); n != tries+1 {
			t.Errorf("begun before %v: %d tries, want the one that was waited for", begunBefore, n-tries)
		}
	}
}
