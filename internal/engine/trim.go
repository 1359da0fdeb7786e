package engine

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/huge"
	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/shard"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// walked is how many shards are looked at while the lock of the list is held, which
// AcquireHeap needs.
const walked = 256

// each calls f for all shards, in portions, under the lock of the list. A shard that comes
// meanwhile may be left out, and one that moves comes twice.
func (l *Life) each(f func(s *shard.Shard)) {
	for from := -1; from != 0; {
		l.mu.Lock()
		n := len(l.shards)
		if from < 0 || from > n {
			from = n
		}
		to := max(from-walked, 0)
		for i := from - 1; i >= to; i-- {
			f(l.shards[i])
		}
		from = to
		l.mu.Unlock()
	}
}

// claim claims all shards that want says yes to, in portions, and calls f for each that it
// got: those in the middle of a call that goes on are left. The caller holds trimming.
func (l *Life) claim(want func(s *shard.Shard) bool, f func(s *shard.Shard)) {
	for from := -1; from != 0; {
		l.found = l.found[:0]
		l.mu.Lock()
		n := len(l.shards)
		if from < 0 || from > n {
			from = n
		}
		to := max(from-walked, 0)
		for i := from - 1; i >= to; i-- {
			if s := l.shards[i]; want(s) && s.Claim.CompareAndSwap(shard.Free, shard.Taken) {
				s.State.Or(shard.Claimed)
				l.found = append(l.found, s)
			}
		}
		from = to
		l.mu.Unlock()
		if len(l.found) == 0 {
			continue
		}
		pin.Wait()
		for _, s := range l.found {
			over := s.Over()
			if over {
				f(s)
			} else {
				l.stir() // what it has is for the next time
				l.arm()
			}
			s.State.And(^uint64(shard.Claimed))
			if !s.Claim.CompareAndSwap(shard.Taken, shard.Free) {
				if !over {
					s.Await() // Release comes after the section
				}
				l.bury(s) // its heap was released meanwhile
			}
		}
	}
	clear(l.found)
}

// drain scatters all magazines of a shard that is claimed, and frees them.
func (l *Life) drain(s *shard.Shard) {
	for c := range uint8(sizeclass.Count) {
		l.drainClass(s, c)
	}
}

func (l *Life) drainClass(s *shard.Shard, c uint8) {
	m := s.Of(c)
	if m.Mags == 0 {
		return
	}
	var b pool.Hand
	for m.Blocks() > 0 {
		m.TakeAny(&b)
		l.scatter(&b)
	}
	metaFreeAt(s.Remove(c))
}

// Trim gives back to the system whatever the allocator does not need.
func (l *Life) Trim() error {
	l.trimming.Lock()
	err := l.trim(true)
	l.trimming.Unlock()
	Funeral()
	return err
}

// trim does what Trim does. The caller holds trimming. With all it tries everything that the
// system refused to take before, else as much as the janitor does.
func (l *Life) trim(all bool) error {
	if l.closed.Load() {
		return arena.ErrClosed
	}
	l.claim(func(*shard.Shard) bool { return true }, l.drain)
	for c := range uint8(sizeclass.Count) {
		if p := l.tell(c); p != 0 {
			l.classes[c].broken.Store(p) // for a malloc
		}
		l.sweepAll(c)
	}
	_ = l.Huge.Tick(0) // what is refused is tried again in unmap
	return l.unmap(l.Arenas.Retire(0, 0), all)
}

// unmap unmaps the retired arenas whose grace period is over, tries again what the system
// refused to take, and drops the pages of free units. The caller holds trimming.
func (l *Life) unmap(retired []arena.Retired, all bool) (first error) {
	l.retired = append(l.retired, retired...)
	for l.grace() {
		_ = l.Arenas.Unmap(l.left, l.conf.Keep) // what is refused is tried again
		l.left = l.left[:0]
	}
	if l.waiting.Store(int32(len(l.left) + len(l.retired))); l.waiting.Load() > 0 {
		l.arm()
	}
	for _, err := range []error{l.Huge.Retry(all), l.Arenas.Retry(l.conf.Keep, all)} {
		if first == nil {
			first = err
		}
	}
	l.Arenas.Purge()
	arena.RetryOrphans(all)
	return first
}

// grace begins a grace period for the arenas that are retired, unless one is under way, and
// reports whether it is over for those that are left. It waits for the sections of Ps. A heap
// that is descheduled in the middle of a section keeps them for the next call: one look at it
// that finds it outside is enough.
func (l *Life) grace() bool {
	begins := len(l.left) == 0
	if begins {
		if len(l.retired) == 0 {
			return false
		}
		l.left, l.retired = l.retired, l.left
		pin.Wait()
	}
	over := true
	l.each(func(s *shard.Shard) {
		if begins {
			s.Late = s.Slot < 0
		}
		if s.Late {
			s.Late = !s.Over()
			over = over && !s.Late
		}
	})
	return over
}

// tick is what the janitor does for a life that is due: it drains the classes of shards that
// nothing moved in since the last tick, and gives back what was not needed for a whole tick or
// exceeds what may be retained. It reports whether there is something left to come for.
func (l *Life) tick() (again bool) {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	if l.closed.Load() {
		return false
	}
	busy := false
	l.claim(func(s *shard.Shard) (idle bool) {
		for c := range uint8(sizeclass.Count) {
			m := s.Of(c)
			now := m.Look()
			if now == 0 {
				continue
			}
			if now == s.Seen[c] {
				idle = true
			} else {
				s.Seen[c], busy = now, true
			}
		}
		return idle
	}, func(s *shard.Shard) {
		for c := range uint8(sizeclass.Count) {
			switch m := s.Of(c); {
			case m.Mags == 0:
			case m.Look() == s.Seen[c]:
				l.drainClass(s, c)
				s.Seen[c] = 0
			default:
				busy = true // it has moved meanwhile
			}
		}
	})
	for c := range uint8(sizeclass.Count) {
		if l.classes[c].empties.Load() > 0 {
			l.sweepAll(c)
		}
	}
	l.Arenas.Tick()
	retain := l.conf.RetainBytes
	retain -= min(retain, l.Huge.Totals().Retained)
	_ = l.Huge.Tick(2)
	_ = l.unmap(l.Arenas.Retire(2, retain), false) // what is refused is counted, and tried again
	arenas, _ := l.Arenas.HasFree()
	mappings, _ := l.Huge.HasFree()
	return busy || arenas || mappings || l.waiting.Load() > 0
}

// graves are closed lives whose pages are still to be unmapped, in the order in which they were
// closed.
var graves struct {
	sync.Mutex
	list []grave
	gone uint64 // graves that are not in the list any more
}

// refusals counts what the system refused to unmap for lives that were closed.
var refusals atomic.Uint64

// Refusals returns how often the system refused to unmap what allocators that were closed had
// mapped.
func Refusals() uint64 { return refusals.Load() }

type grave struct {
	l      *Life
	arenas []arena.Retired
	huge   []huge.Retained
}

// bury leaves the pages of a life to the next allocator, to a later Close, or to the janitor.
// Their headers are cleared. A Close that had a grace period unmaps what earlier ones left, where
// the program works that closes them.
func bury(l *Life, arenas []arena.Retired, mappings []huge.Retained) {
	if len(arenas) == 0 && len(mappings) == 0 {
		giveID(l.id) // no header has it
		return
	}
	defer callFuneral() // for what is warm, too
	arenas = l.Arenas.Leave(arenas, l.conf.Keep)
	if len(arenas) == 0 && len(mappings) == 0 {
		giveID(l.id) // no header has it any more
		return
	}
	graves.Lock()
	defer graves.Unlock()
	graves.list = append(graves.list, grave{l, arenas, mappings})
}

// dug returns the number of graves that there have been. A grace period that begins after is
// theirs.
func dug() uint64 {
	graves.Lock()
	defer graves.Unlock()
	return graves.gone + uint64(len(graves.list))
}

// Funeral unmaps what is left of closed lives, after a grace period for those who look at
// pointers of any allocator, and what was kept of them for others.
func Funeral() {
	unearthAll()
	cool(true)
}

// cool unmaps warm arenas, as [arena.Cool] does, and reports whether there are others.
func cool(all bool) bool {
	left, refused := arena.Cool(all, pin.Wait)
	refusals.Add(uint64(refused))
	return left
}

// unearthAll unmaps what is left of closed lives, or keeps some of it for others.
func unearthAll() {
	n := dug()
	graves.Lock()
	left := len(graves.list)
	graves.Unlock()
	if left > 0 {
		pin.Wait()
	}
	unearth(n, math.MaxInt)
}

// unmapping is held while the pages of closed lives are unmapped, so that whoever comes second
// finds them unmapped.
var unmapping sync.Mutex

// unearth unmaps those of the first n graves that are left, whose grace period is over, up to so
// many mappings.
func unearth(n uint64, most int) {
	if all := most == math.MaxInt; all {
		unmapping.Lock()
	} else if !unmapping.TryLock() {
		return // whoever has it may take long
	}
	defer unmapping.Unlock()
	graves.Lock()
	k := 0
	for ; k < len(graves.list) && graves.gone+uint64(k) < n; k++ {
		if most -= len(graves.list[k].arenas) + len(graves.list[k].huge); most < 0 {
			break
		}
	}
	now := slices.Clone(graves.list[:k])
	graves.list = slices.Delete(graves.list, 0, k)
	graves.gone += uint64(k)
	graves.Unlock()
	for _, g := range now {
		_ = g.l.Arenas.Unmap(g.arenas, g.l.conf.Keep) // what is refused is an orphan, and counted
		_ = g.l.Huge.Release(g.huge)
		refusals.Add(g.l.Arenas.Counts.Refusals.Load() + g.l.Huge.Refusals.Load())
		giveID(g.l.id)
	}
	if most > 0 {
		arena.RetryOrphans(false)
	}
}
