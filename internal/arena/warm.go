package arena

import (
	"sync"
	"unsafe"

	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/osmem"
)

// An arena of an allocator that was closed may be the next one's, with its pages and what they
// hold: a program that makes and closes an allocator for each request maps and unmaps nothing
// then, and faults no page in. To map a MiB, touch some pages and unmap it costs 10 to 200 µs,
// and some of that on every processor of the process. What nobody takes goes back to the system
// when the janitor comes for the second time, some 40 ms later, or at a Trim.
var warm struct {
	sync.Mutex
	list []unsafe.Pointer // arenas of DefaultBytes, counted as mappings
	idle int              // the least that there were since the janitor came last
}

// mostWarm bounds them.
const mostWarm = 4

// takesWarm reports whether arenas of the set may be another's after it, and the reverse.
func (s *Set) takesWarm() bool {
	return s.Bytes == DefaultBytes && s.GuardUnits == 0 && !s.NoDump && !osmem.OnGoHeap
}

// takeWarm returns a warm arena, whose pages are not zero, or nil.
func (s *Set) takeWarm() unsafe.Pointer {
	if !s.takesWarm() {
		return nil
	}
	warm.Lock()
	defer warm.Unlock()
	n := len(warm.list) - 1
	if n < 0 {
		return nil
	}
	p := warm.list[n]
	warm.list = warm.list[:n]
	warm.idle = min(warm.idle, n)
	return p
}

// keepWarm keeps the arena of a set that is closed for another, if there is room.
func (s *Set) keepWarm(p unsafe.Pointer) bool {
	if !s.takesWarm() {
		return false
	}
	warm.Lock()
	defer warm.Unlock()
	if len(warm.list) == mostWarm {
		return false
	}
	warm.list = append(warm.list, p)
	return true
}

// Cool unmaps warm arenas, after grace: all of them, or those that nobody has wanted since it was
// called last. It reports whether there are others, and how many the system refused to take,
// which are orphans.
func Cool(all bool, grace func()) (left bool, refused int) {
	warm.Lock()
	n := warm.idle
	if all {
		n = len(warm.list)
	}
	cold := warm.list[:n:n]
	warm.list = append([]unsafe.Pointer(nil), warm.list[n:]...)
	warm.idle = len(warm.list)
	left = len(warm.list) > 0
	warm.Unlock()
	if len(cold) > 0 {
		grace() // for those who look at pointers of any allocator
	}
	for _, p := range cold {
		headers.Drop(uintptr(p), DefaultBytes)
		if UnmapRange(p, DefaultBytes, false) != nil {
			_ = osmem.Advise(p, DefaultBytes, osmem.DontNeed) // nobody uses it again
			Orphan(p, DefaultBytes, false)
			refused++
		}
	}
	return left, refused
}
