package shard

import (
	"runtime/metrics"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
)

func openTable(t *testing.T, delay time.Duration) (*Table, *View) {
	t.Helper()
	g, err := arena.NewGeometry(arena.DefaultBytes)
	if err != nil {
		t.Fatal(err)
	}
	v := &View{}
	table, err := Open(Config{Geometry: g, RetainBytes: 1 << 20, RetainDelay: delay}, v)
	if err != nil {
		t.Fatal(err)
	}
	return table, v
}

// use makes the table one that the janitor is to come for.
func use(t *testing.T, table *Table) {
	t.Helper()
	p, _, err := table.Alloc(nil, 3)
	if err != nil {
		t.Fatal(err)
	}
	if v := table.Free(nil, p); v != Freed {
		t.Fatalf("Free: %v", v)
	}
}

// A closed table is the janitor's no more, nor is its id taken.
func TestCloseForgets(t *testing.T) {
	for range 100 {
		table, _ := openTable(t, 24*time.Hour)
		use(t, table)
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
		table.arm()
		janitor.mu.Lock()
		_, due := janitor.due[table]
		janitor.mu.Unlock()
		if due {
			t.Fatal("the janitor is to come for a closed table")
		}
	}
	ids.Lock()
	defer ids.Unlock()
	if n := len(ids.used); n != 0 {
		t.Errorf("%d ids are taken, no table is open", n)
	}
}

// An id is not given again while its table is open, when ids come round.
func TestIDsComeRound(t *testing.T) {
	table, _ := openTable(t, 24*time.Hour)
	id := table.Arenas.Entry.ID()
	ids.Lock()
	ids.last = id - 1
	ids.Unlock()
	other, _ := openTable(t, 24*time.Hour)
	if other.Arenas.Entry.ID() == id {
		t.Errorf("two open tables have id %d", id)
	}
	for _, table := range []*Table{table, other} {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}

// stops returns how many stop-the-world pauses there were that are not the
// collector's.
func stops() (n uint64) {
	s := []metrics.Sample{{Name: "/sched/pauses/total/other:seconds"}}
	metrics.Read(s)
	for _, c := range s[0].Value.Float64Histogram().Counts {
		n += c
	}
	return n
}

// A round of the janitor stops the world twice at most, be it for one table or
// for many.
func TestRoundStopsTwice(t *testing.T) {
	var tables []*Table
	for range 50 {
		table, _ := openTable(t, 24*time.Hour)
		use(t, table)
		tables = append(tables, table)
	}
	tick(tables[:1]) // the first grace period of a process may find out how to wait
	before := stops()
	again := tick(tables)
	if n := stops() - before; n > 2 {
		t.Errorf("a round for %d tables stopped the world %d times", len(tables), n)
	}
	for round := 0; len(again) > 0; round++ {
		if round == 5 {
			t.Fatalf("%d tables have something left after %d rounds", len(again), round)
		}
		again = tick(again)
	}
	for _, table := range tables {
		if n := table.Budget.Mapped(); n != 0 {
			t.Errorf("%d bytes are mapped of a table that is idle", n)
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What the shard remembers of the block that it handed out last is forgotten
// with its pool.
func TestLastIsForgotten(t *testing.T) {
	table, view := openTable(t, 24*time.Hour)
	use(t, table)
	token := Enter()
	s, _ := view.Take(token)
	h := s.Used(3)
	p := h.Pop()
	s.SetLast(p, 3)
	Exit(s, token)
	if v := table.freeWithoutShard(p); v != Freed { // as others do
		t.Fatalf("free by nobody: %v", v)
	}
	if h.IsQuiet(s.word) {
		t.Error("the pool is quiet, and has a block on its remote list")
	}
	if err := table.Trim(); err != nil {
		t.Fatal(err)
	}
	if s.Last() != 0 {
		t.Errorf("%p is remembered in a shard that was drained", unsafe.Pointer(p))
	}
	if err := table.Close(); err != nil {
		t.Error(err)
	}
}
