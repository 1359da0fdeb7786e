package arena

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// addressList keeps the address ranges of decommitted arenas where the Go heap
// might otherwise grow into them while a stale pointer still points there, which
// would crash the collector.
type addressList struct {
	mu   sync.Mutex
	kept map[uint][]unsafe.Pointer         // of arenas, by log2 of the size
	huge []span                            // of huge mappings, by address
	part map[unsafe.Pointer]unsafe.Pointer // of those in use that were kept: where their mappings begin
	size atomic.Uint64
}

// span is a range of kept addresses. Two that adjoin become one if they are parts of
// one mapping: no system has to treat parts of two as one.
type span struct {
	p    unsafe.Pointer
	size int
	of   unsafe.Pointer // where the mapping begins
}

func (s span) end() unsafe.Pointer { return unsafe.Add(s.p, s.size) }

// fit returns how far into the span size bytes at a multiple of align begin, and
// whether there is room for them.
func (s span) fit(size, align int) (head int, ok bool) {
	head = int(-uintptr(s.p) & uintptr(align-1))
	return head, size <= s.size-head
}

var addresses = addressList{kept: map[uint][]unsafe.Pointer{}, part: map[unsafe.Pointer]unsafe.Pointer{}}

// KeptBytes returns the address space that is kept inaccessible for later
// arenas. It takes no memory.
func KeptBytes() uint64 { return addresses.size.Load() }

// take returns zeroed memory of 1<<log bytes, aligned to its size.
func (l *addressList) take(log uint) (unsafe.Pointer, error) {
	l.mu.Lock()
	list := l.kept[log]
	if len(list) == 0 {
		l.mu.Unlock()
		return mapNew(1<<log, 1<<log)
	}
	p := list[len(list)-1]
	l.kept[log] = list[:len(list)-1]
	l.mu.Unlock()
	if err := osmem.Commit(p, 1<<log); err != nil {
		l.mu.Lock()
		l.kept[log] = append(l.kept[log], p)
		l.mu.Unlock()
		return nil, err
	}
	l.size.Add(-(uint64(1) << log))
	return p, nil
}

// give unmaps the range, or decommits and keeps it, or returns the bare cause of the
// system's refusal. The Go heap as backing is always kept: the collector does not bear
// stale pointers into what it has reclaimed.
func (l *addressList) give(p unsafe.Pointer, log uint, keep bool) error {
	if !keep && !osmem.OnGoHeap {
		return unmapWhole(p, 1<<log)
	}
	if err := osmem.TryDecommit(p, 1<<log); err != nil {
		return err
	}
	l.mu.Lock()
	l.kept[log] = append(l.kept[log], p)
	l.mu.Unlock()
	l.size.Add(1 << log)
	return nil
}

// mapNew maps zeroed memory of size bytes at a multiple of align, and counts the mapping.
func mapNew(size, align int) (unsafe.Pointer, error) {
	if err := Mappings.Take(1); err != nil {
		return nil, err
	}
	p, err := osmem.MapAligned(size, align)
	if err != nil {
		Mappings.Give(1)
	}
	return p, err
}

// unmapWhole undoes that, or returns the bare cause of the system's refusal.
func unmapWhole(p unsafe.Pointer, size int) error {
	err := osmem.TryRelease(p, size)
	if err == nil {
		Mappings.Give(1)
	}
	return err
}

// MapRange returns zeroed memory of size bytes, whole pages, at a multiple of
// align.
func MapRange(size, align int) (unsafe.Pointer, error) {
	p := addresses.takeHuge(size, align)
	if p == nil {
		return mapNew(size, align)
	}
	if err := osmem.Commit(p, size); err != nil {
		addresses.keepHuge(p, size)
		return nil, err
	}
	return p, nil
}

// UnmapRange gives back what MapRange returned. keep decommits it and keeps its
// addresses for later ranges; so does what was kept once, for not every system
// releases a part of a range. A refusal by the system allocates nothing: it is the bare
// cause, which [Refused] makes an error of.
func UnmapRange(p unsafe.Pointer, size int, keep bool) error {
	if !keep && !IsKept(p) {
		return unmapWhole(p, size)
	}
	if err := osmem.TryDecommit(p, size); err != nil {
		return err
	}
	addresses.keepHuge(p, size)
	return nil
}

// Refused returns the error for what UnmapRange was told and the cause that it returned.
func Refused(p unsafe.Pointer, size int, keep bool, cause error) error {
	op := osmem.OpRelease
	if keep || IsKept(p) {
		op = osmem.OpDecommit
	}
	return &osmem.Error{Op: op, Addr: uintptr(p), Size: size, Err: cause}
}

// IsKept reports whether UnmapRange keeps the addresses of the range at p, whatever
// it is told.
func IsKept(p unsafe.Pointer) bool {
	addresses.mu.Lock()
	defer addresses.mu.Unlock()
	_, was := addresses.part[p]
	return osmem.OnGoHeap || was
}

// keepHuge keeps the addresses of a range, with those beside it of the same mapping.
func (l *addressList) keepHuge(p unsafe.Pointer, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := span{p, size, p}
	if of, ok := l.part[p]; ok {
		s.of = of
		delete(l.part, p)
	}
	from, _ := slices.BinarySearchFunc(l.huge, s, func(a, b span) int { return cmp.Compare(uintptr(a.p), uintptr(b.p)) })
	to := from
	if to < len(l.huge) && l.huge[to].p == s.end() && l.huge[to].of == s.of {
		s.size += l.huge[to].size
		to++
	}
	if from > 0 && l.huge[from-1].end() == s.p && l.huge[from-1].of == s.of {
		from--
		s.p = l.huge[from].p
		s.size += l.huge[from].size
	}
	l.huge = slices.Replace(l.huge, from, to, s)
	l.size.Add(uint64(size))
}

// takeHuge returns size bytes at a multiple of align of the smallest span that has
// room, or nil. The rest of it stays kept.
func (l *addressList) takeHuge(size, align int) unsafe.Pointer {
	l.mu.Lock()
	defer l.mu.Unlock()
	best := -1
	for i, s := range l.huge {
		if _, ok := s.fit(size, align); ok && (best < 0 || s.size < l.huge[best].size) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	s := l.huge[best]
	head, _ := s.fit(size, align)
	p := unsafe.Add(s.p, head)
	var rest []span
	if head > 0 {
		rest = append(rest, span{s.p, head, s.of})
	}
	if tail := s.size - head - size; tail > 0 {
		rest = append(rest, span{unsafe.Add(p, size), tail, s.of})
	}
	l.huge = slices.Replace(l.huge, best, best+1, rest...)
	l.size.Add(-uint64(size))
	l.part[p] = s.of
	return p
}

// orphans are mappings in no table whose unmapping was refused.
var orphans struct {
	mu   sync.Mutex
	list []orphan
}

type orphan struct {
	p    unsafe.Pointer
	size int
	keep bool // its addresses
}

// Patience is how many refusals in a row end a pass over what the system refused to
// take before. At its limit of mappings a system refuses thousands: a pass then costs no
// more than this many calls, and goes on as soon as one succeeds.
const Patience = 64

// Orphan takes charge of a mapping that is in no table and that the system refused
// to unmap, or, with keep, to decommit; it is tried again by [RetryOrphans].
func Orphan(p unsafe.Pointer, size int, keep bool) {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	orphans.list = append(orphans.list, orphan{p, size, keep})
}

// RetryOrphans tries to unmap what was refused before: all of it, from the highest
// address down, or the oldest until [Patience] in a row are refused again.
func RetryOrphans(all bool) {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	list := orphans.list
	if all {
		slices.SortFunc(list, func(a, b orphan) int { return cmp.Compare(uintptr(b.p), uintptr(a.p)) })
	}
	tried, again, row := 0, 0, 0
	for ; tried < len(list) && (all || row < Patience); tried++ {
		o := list[tried]
		if UnmapRange(o.p, o.size, o.keep) == nil {
			row = 0
			continue
		}
		row++
		list[again] = o
		again++
	}
	refused := slices.Clone(list[:again])
	orphans.list = append(slices.Delete(list, 0, tried), refused...)
}
