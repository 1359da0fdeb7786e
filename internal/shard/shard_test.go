package shard

import (
	"runtime/metrics"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/grace"
	"github.com/pyarena/pyarena/internal/pool"
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
		table.armed.Store(false)
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

// A round comes again for a shard that was busy while it looked.
func TestBusyShard(t *testing.T) {
	table, _ := openTable(t, 24*time.Hour)
	use(t, table)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			for range 20 { // a pool has fewer of these
				if _, _, err := table.Alloc(nil, 40); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	again := 0 // a slow machine may let the shard seem idle
	for range 100 {
		again += len(tick([]*Table{table}))
	}
	if again == 0 {
		t.Error("the janitor forgets a shard that was busy")
	}
	close(stop)
	<-stopped
	if err := table.Close(); err != nil {
		t.Error(err)
	}
}

// Who still has the table of a former life sees no shards of the present one.
func TestFormerLife(t *testing.T) {
	former, view := openTable(t, 24*time.Hour)
	use(t, former)
	if err := former.Close(); err != nil {
		t.Fatal(err)
	}
	g, err := arena.NewGeometry(arena.DefaultBytes)
	if err != nil {
		t.Fatal(err)
	}
	now, err := Open(Config{Geometry: g, RetainDelay: 24 * time.Hour}, view)
	if err != nil {
		t.Fatal(err)
	}
	use(t, now)
	former.eachShard(func(*Shard) { t.Error("a closed table has a shard") })
	if err := now.Close(); err != nil {
		t.Error(err)
	}
}

// An owner's free makes a pool quiet again that others have freed onto.
func TestQuieten(t *testing.T) {
	onOneP(t)
	table, view := openTable(t, 24*time.Hour)
	var ps []unsafe.Pointer
	for range 4 {
		p, _, err := table.Alloc(nil, 3)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	h := view.HeaderOf(ps[0])
	if v := table.freeWithoutShard(ps[1]); v != Freed || h.Word().Len() != 1 {
		t.Fatalf("free by nobody: %v, %d on the remote list", v, h.Word().Len())
	}
	// Whichever shard this goroutine would take now, the owner is asked.
	token := Enter()
	s := shardOf(h.Owner())
	verdict := table.freePinned(s, ps[2])
	Exit(nil, token)
	if verdict != Freed || !h.IsQuiet(s.word) {
		t.Errorf("free by the owner: %v; the pool's word is %#x", verdict, h.Word())
	}
	if err := table.Close(); err != nil {
		t.Error(err)
	}
}

// Rounds that come for the same tables in another order do not wait for each
// other's locks.
func TestRoundsTakeTurns(t *testing.T) {
	a, _ := openTable(t, 24*time.Hour)
	b, _ := openTable(t, 24*time.Hour)
	done := make(chan struct{})
	for _, order := range [][]*Table{{a, b}, {b, a}} {
		go func() {
			for range 20_000 {
				tick(order)
			}
			done <- struct{}{}
		}()
	}
	for range 2 {
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("two rounds wait for each other")
		}
	}
	for _, table := range []*Table{a, b} {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What the shard knows of the block that it handed out last ends when others free it, and
// with its pool.
func TestHotIsForgotten(t *testing.T) {
	onOneP(t)
	table, view := openTable(t, 24*time.Hour)
	use(t, table)
	token := Enter()
	s, _ := view.Take(token)
	h, m := s.Used(3), s.Magazine(3)
	p := h.Pop()
	h.PushTo(m, h.Index(p), p)
	if m.Pop() != p {
		t.Error("the magazine returns another block")
	}
	s.Remember(p)
	if !s.WasLast(p) || !s.KeepsNone() || !s.OwnsQuiet(h) || s.Keeps(p) {
		t.Errorf("%p cannot be kept", p)
	}
	s.Keep(h, p)
	if !s.Keeps(p) || s.KeepsNone() {
		t.Errorf("%p is not kept, or twice", p)
	}
	if !s.HasHot(3) || s.HasHot(4) {
		t.Error("nothing is hot, or of another class")
	}
	if q := s.TakeHot(); q != p || s.HasHot(3) || s.Keeps(p) {
		t.Errorf("%p is kept, and %p taken", p, q)
	}
	pool.Unseal(p)
	Exit(s, token)
	if v := table.freeWithoutShard(p); v != Freed { // as others do
		t.Fatalf("free by nobody: %v", v)
	}
	if s.OwnsQuiet(h) {
		t.Error("a block that is on its pool's remote list may be kept")
	}
	if err := table.Trim(); err != nil {
		t.Fatal(err)
	}
	if s.WasLast(p) {
		t.Errorf("%p is known to a shard that was drained", p)
	}
	if err := table.Close(); err != nil {
		t.Error(err)
	}
}

// A goroutine that finds itself on another P, whose blocks are those of the P that
// it left, gets its shard back.
func TestFollow(t *testing.T) {
	table, home := moved(t)
	left := home.Load()
	old := allocOn(t, table, home, 3*strayFrees)
	for _, p := range old[:strayFrees-1] {
		table.Free(nil, p)
	}
	if home.Load() != left {
		t.Fatalf("it followed before %d frees", strayFrees)
	}
	moved := false
	for _, p := range old[strayFrees-1:] {
		if v := table.Free(nil, p); v != Freed {
			t.Fatalf("Free: %v", v)
		}
		moved = moved || home.Load() != left
	}
	if !moved {
		t.Error("the shard stayed behind")
	}
}

// The shard of an idle P whose blocks are freed among others is detached and drained:
// its pools go to who frees their blocks.
func TestDetach(t *testing.T) {
	table, home := moved(t)
	left := home.Load()
	old := allocOn(t, table, home, 8*strayFrees)
	table.trimming.Lock() // that the janitor waits
	freed := 0
	for ; home.Load() == left && freed < len(old)-1; freed++ {
		for range 3 {
			use(t, table)
		}
		if v := table.Free(nil, old[freed]); v != Freed {
			t.Fatalf("Free: %v", v)
		}
	}
	detached := len(table.detached) > 0 || home.Load() != left
	table.trimming.Unlock()
	if !detached || freed < strayFrees {
		t.Fatalf("detached: %v, after %d frees", detached, freed)
	}
	for begun := time.Now(); left.hasPools(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the detached shard was not drained")
		}
	}
	table.trimming.Lock() // the janitor is done with the last pool
	for _, p := range old[freed:] {
		if owner := table.Arenas.PoolOf(p).Owner(); owner != pool.Shared && owner != pool.Abandoned {
			t.Errorf("the pool of %p is owner %d's", p, owner)
		}
	}
	table.trimming.Unlock()
	for _, p := range old[freed:] {
		if v := table.Free(nil, p); v != Freed {
			t.Fatalf("Free: %v", v)
		}
	}
	if err := table.Trim(); err != nil || table.Arenas.UsedUnits() != 0 {
		t.Errorf("Trim: %v, %d units are used", err, table.Arenas.UsedUnits())
	}
}

// A table may be closed while a shard is detached, and trimmed.
func TestDetachEnds(t *testing.T) {
	for name, end := range map[string]func(*Table) error{"Trim": (*Table).Trim, "Close": (*Table).Close} {
		table, home := moved(t)
		old := allocOn(t, table, home, 8)
		table.mu.Lock()
		table.detach(home)
		n := len(table.detached)
		table.mu.Unlock()
		if n != 1 || home.Load() != nil {
			t.Fatalf("%s: %d detached", name, n)
		}
		if err := end(table); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(table.detached) != 0 {
			t.Errorf("%s: a shard is still detached", name)
		}
		for _, p := range old {
			if v := table.Free(nil, p); (v == Freed) != (name == "Trim") {
				t.Errorf("%s, then Free: %v", name, v)
			}
		}
	}
}

// moved returns a table, which ends with the test, whose user was moved from the P of the
// slot, where its shard is, to another.
func moved(t *testing.T) (*Table, *Slot) {
	t.Helper()
	if !follows || !grace.Barrier() {
		t.Skip("shards stay where they are here")
	}
	onOneP(t) // where the user was moved to
	table, view := openTable(t, 24*time.Hour)
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	use(t, table)
	mine := view.slot(Enter())
	grace.Exit(0)
	home := view.slot(int(view.n.Load()) - 1)
	if mine == home {
		home = view.slot(0)
	}
	home.Store(mine.Load())
	mine.Store(nil)
	home.Load().setSlot(home)
	return table, home
}

// allocOn allocates blocks as the P of the slot would.
func allocOn(t *testing.T, table *Table, slot *Slot, n int) (ps []unsafe.Pointer) {
	t.Helper()
	s := slot.Load()
	for len(ps) < n {
		if p := s.Used(3).Pop(); p != nil {
			ps = append(ps, p)
			continue
		}
		if found, _ := table.refill(s, 3); found == foundNothing {
			h, err := table.Arenas.TakePool(3)
			if err != nil {
				t.Fatal(err)
			}
			h.Own(s.id)
			s.acquire(h)
		}
	}
	return ps
}
