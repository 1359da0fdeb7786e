package pymalloc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/osmem"
)

// What misuse comes to, in SECURITY.md's words.
const (
	faults    = "faults at the instruction"
	later     = "ErrCorrupted when the block is handed out next"
	unnoticed = "unnoticed"
	elsewhere = "hits memory of others, or faults"
)

// misuse is a program that does what it must not.
type misuse struct {
	name string
	run  func(t *testing.T, a *Allocator) string
}

// verdictOf names the sentinel of an error.
func verdictOf(err error) string {
	for name, sentinel := range map[string]error{
		"ErrNotOwned": ErrNotOwned, "ErrDoubleFree": ErrDoubleFree, "ErrOverrun": ErrOverrun, "ErrNoMemory": ErrNoMemory,
	} {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	if errors.Is(err, ErrCorrupted) {
		return "ErrCorrupted"
	}
	return fmt.Sprint(err)
}

// touch runs f and reports whether it faulted.
func touch(f func()) (faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { faulted = recover() != nil }()
	f()
	return
}

// overflow writes n bytes behind the block at p, if what is there is the same
// arena's, or nobody's because the allocator is hardened.
func overflow(t *testing.T, a *Allocator, p unsafe.Pointer, n int) string {
	end := unsafe.Add(p, UnsafeUsableSize(p))
	isNext := uintptr(end)&uintptr(a.Stats().Arenas.Bytes-1) == 0
	if !a.opts.Hardened && (isNext || !a.Owns(end)) {
		return elsewhere
	}
	if touch(func() { scribble(end, n) }) {
		return faults
	}
	if err := a.UnsafeFree(p); err != nil {
		return verdictOf(err) + " when it is freed"
	}
	return unnoticed
}

// reuse hands out blocks of the size until it hears of a corrupted one, or has
// the block at p, or has had enough.
func reuse(t *testing.T, a *Allocator, size int, p unsafe.Pointer) string {
	for range 3000 {
		q, err := a.UnsafeMalloc(size)
		switch {
		case errors.Is(err, ErrCorrupted):
			return later
		case err != nil:
			t.Fatal(err)
		case q == p:
			return unnoticed
		}
	}
	t.Fatalf("block %p is not handed out again", p)
	return ""
}

// freed returns a block of size bytes that was filled and freed, by another
// goroutine's heap if remote. Another block of its pool is in use.
func freed(t *testing.T, a *Allocator, size int, remote bool) unsafe.Pointer {
	keep := mustMalloc(t, a, size)
	_ = keep
	return freedAlone(t, a, size, remote)
}

// freedAlone is freed without another block.
func freedAlone(t *testing.T, a *Allocator, size int, remote bool) unsafe.Pointer {
	p := mustMalloc(t, a, size)
	scribble(p, size)
	if remote {
		h := a.AcquireHeap()
		mustFree(t, h, p)
		h.Release()
	} else {
		mustFree(t, a, p)
	}
	return p
}

// misuses are of the kinds that the security tests of mimalloc-bench have.
func misuses() (all []misuse) {
	add := func(name string, run func(t *testing.T, a *Allocator) string) {
		all = append(all, misuse{name, run})
	}
	sizes := []struct {
		name string
		size int
	}{{"small", 64}, {"medium", 20_000}, {"run", 100_000}, {"huge", 3 << 20}}

	for _, s := range sizes {
		for _, n := range []int{1, 8} {
			add(fmt.Sprintf("overflow, %s, %d byte(s)", s.name, n), func(t *testing.T, a *Allocator) string {
				return overflow(t, a, mustMalloc(t, a, s.size), n)
			})
		}
	}
	add("overflow, a string without its end", func(t *testing.T, a *Allocator) string {
		p, q := mustMalloc(t, a, 16), mustMalloc(t, a, 16)
		scribble(p, UnsafeUsableSize(p))
		*(*[16]byte)(q) = [16]byte{}
		return overflow(t, a, p, 4)
	})
	add("overflow into a free block", func(t *testing.T, a *Allocator) string {
		all := map[uintptr]unsafe.Pointer{}
		for range 200 {
			p := mustMalloc(t, a, 56)
			all[uintptr(p)] = p
		}
		const step = 64 // bytes from a block to the next
		for at, p := range all {
			if q := all[at+step]; q != nil {
				mustFree(t, a, mustMalloc(t, a, 60)) // the block that is kept is another
				mustFree(t, a, q)
				scribble(p, step+8)
				return reuse(t, a, 56, q)
			}
		}
		t.Fatal("no two blocks adjoin")
		return ""
	})
	add("overflow of the last block of an arena", func(t *testing.T, a *Allocator) string {
		bytes := uintptr(a.Stats().Arenas.Bytes)
		if bytes == 0 {
			mustMalloc(t, a, 16)
			bytes = uintptr(a.Stats().Arenas.Bytes)
		}
		guard := uintptr(0)
		if a.opts.Hardened {
			guard = max(bytes/64, uintptr(osmem.PageSize()))
		}
		for range 40_000 {
			p := mustMalloc(t, a, 56)
			if (uintptr(p)+64+guard)&(bytes-1) == 0 {
				return overflow(t, a, p, 16)
			}
		}
		t.Fatal("no block ends an arena")
		return ""
	})
	for _, s := range sizes {
		add(fmt.Sprintf("double free, %s", s.name), func(t *testing.T, a *Allocator) string {
			return verdictOf(a.UnsafeFree(freed(t, a, s.size, false)))
		})
		add(fmt.Sprintf("double free, %s, by another goroutine", s.name), func(t *testing.T, a *Allocator) string {
			return verdictOf(a.UnsafeFree(freed(t, a, s.size, true)))
		})
	}
	add("double free, small, others freed between", func(t *testing.T, a *Allocator) string {
		p := freed(t, a, 64, false)
		q := mustMalloc(t, a, 64)
		if q == p {
			p, q = q, mustMalloc(t, a, 64)
			mustFree(t, a, p)
		}
		mustFree(t, a, q)
		return verdictOf(a.UnsafeFree(p))
	})
	add("double free, small, handed out between", func(t *testing.T, a *Allocator) string {
		p := freed(t, a, 64, false)
		reuse(t, a, 64, p)
		if err := a.UnsafeFree(p); err != nil {
			return verdictOf(err)
		}
		return unnoticed + ": the new owner's block is freed"
	})
	add("double free, huge, unmapped between", func(t *testing.T, a *Allocator) string {
		p := freed(t, a, 3<<20, false)
		if err := a.Trim(); err != nil {
			t.Fatal(err)
		}
		return verdictOf(a.UnsafeFree(p))
	})
	add("double free, in one batch", func(t *testing.T, a *Allocator) string {
		p := mustMalloc(t, a, 64)
		return verdictOf(a.UnsafeFreeBatch([]unsafe.Pointer{p, p}))
	})
	add("realloc of a free block", func(t *testing.T, a *Allocator) string {
		_, err := a.UnsafeRealloc(freed(t, a, 64, false), 1000)
		return verdictOf(err)
	})

	add("free of an address on the stack", func(t *testing.T, a *Allocator) string {
		var local int
		return verdictOf(a.UnsafeFree(unsafe.Pointer(&local)))
	})
	add("free of an address in the Go heap", func(t *testing.T, a *Allocator) string {
		p := new([64]byte)
		defer runtime.KeepAlive(p)
		return verdictOf(a.UnsafeFree(unsafe.Pointer(p)))
	})
	add("free of an address that is not mapped", func(t *testing.T, a *Allocator) string { return verdictOf(a.UintptrFree(1 << 30)) })
	for _, s := range sizes {
		add(fmt.Sprintf("free of the middle of a block, %s", s.name), func(t *testing.T, a *Allocator) string {
			return verdictOf(a.UnsafeFree(unsafe.Add(mustMalloc(t, a, s.size), 16)))
		})
	}
	add("free of an unaligned address", func(t *testing.T, a *Allocator) string {
		return verdictOf(a.UnsafeFree(unsafe.Add(mustMalloc(t, a, 64), 1)))
	})
	add("free of the allocator's own structures", func(t *testing.T, a *Allocator) string {
		return verdictOf(a.UnsafeFree(unsafe.Pointer(headers.Lookup(uintptr(mustMalloc(t, a, 64))))))
	})
	add("free of another allocator's block", func(t *testing.T, a *Allocator) string {
		other := newAllocator(t, Options{})
		return verdictOf(a.UnsafeFree(mustMalloc(t, other, 64)))
	})
	add("free after Close", func(t *testing.T, a *Allocator) string {
		p := mustMalloc(t, a, 64)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		return verdictOf(a.UnsafeFree(p))
	})
	add("usable size of the middle of a block", func(t *testing.T, a *Allocator) string {
		return fmt.Sprint(UnsafeUsableSize(unsafe.Add(mustMalloc(t, a, 64), 16)))
	})
	add("usable size of a free block, by another goroutine", func(t *testing.T, a *Allocator) string {
		return fmt.Sprint(UnsafeUsableSize(freed(t, a, 64, true)))
	})

	add("write after free, small", func(t *testing.T, a *Allocator) string {
		p := freed(t, a, 64, false)
		scribble(p, 8)
		return reuse(t, a, 64, p)
	})
	add("write after free, small, freed by another goroutine", func(t *testing.T, a *Allocator) string {
		p := freed(t, a, 64, true)
		scribble(p, 8)
		return reuse(t, a, 64, p)
	})
	add("write after free, small, not to its first 8 bytes", func(t *testing.T, a *Allocator) string {
		p := freed(t, a, 64, false)
		scribble(unsafe.Add(p, 8), 8)
		return reuse(t, a, 64, p)
	})
	for _, by := range []struct {
		name   string
		remote bool
	}{{"", false}, {", freed by another goroutine", true}} {
		add("write after free, small"+by.name+", looked for by Check", func(t *testing.T, a *Allocator) string {
			scribble(freed(t, a, 64, by.remote), 8)
			if err := a.Check(); err != nil {
				return verdictOf(err)
			}
			return unnoticed
		})
		add("write after free, small"+by.name+", after Check has looked", func(t *testing.T, a *Allocator) string {
			p := freedAlone(t, a, 64, by.remote)
			scribble(p, 8)
			_ = a.Check() // the row before tells what it says
			return reuse(t, a, 64, p)
		})
		add("write after free, small"+by.name+", after Trim", func(t *testing.T, a *Allocator) string {
			p := freedAlone(t, a, 64, by.remote)
			keep := mustMalloc(t, a, 100) // so that the arena stays
			_ = keep
			scribble(p, 8)
			if err := a.Trim(); err != nil {
				t.Fatal(err)
			}
			return reuse(t, a, 64, p)
		})
	}
	add("write after free, small, before its pool is cut anew for another size", func(t *testing.T, a *Allocator) string {
		var ps []unsafe.Pointer
		for range 2000 { // several pools
			ps = append(ps, mustMalloc(t, a, 64))
		}
		for _, p := range ps {
			mustFree(t, a, p)
		}
		p := ps[1000] // not one of the last, which are at hand
		scribble(p, 8)
		for range 20_000 {
			q, err := a.UnsafeMalloc(4000)
			if errors.Is(err, ErrCorrupted) {
				return later
			} else if err != nil {
				t.Fatal(err)
			}
			if at := uintptr(p) - uintptr(q); at < uintptr(UnsafeUsableSize(q)) {
				return unnoticed
			}
		}
		t.Fatalf("the memory at %p is not handed out again", p)
		return ""
	})
	add("write after free, huge, after Trim", func(t *testing.T, a *Allocator) string {
		p := freed(t, a, 3<<20, false)
		if err := a.Trim(); err != nil {
			t.Fatal(err)
		}
		if touch(func() { scribble(p, 8) }) {
			return faults
		}
		return unnoticed
	})
	for _, s := range sizes {
		add(fmt.Sprintf("read after free, %s", s.name), func(t *testing.T, a *Allocator) string {
			p := freed(t, a, s.size, false)
			switch *(*byte)(unsafe.Add(p, 40)) {
			case 0x41:
				return "reads what was there"
			case 0:
				return "reads zeros"
			}
			return "reads something else"
		})
	}
	add("read of what the last owner left, uninitialised", func(t *testing.T, a *Allocator) string {
		p := freed(t, a, 64, false)
		reuse(t, a, 64, p)
		if *(*byte)(unsafe.Add(p, 40)) == 0x41 {
			return "reads what was there"
		}
		return "reads zeros"
	})
	add("read of what the last owner left, Calloc", func(t *testing.T, a *Allocator) string {
		freed(t, a, 64, false)
		for range 3000 {
			p, err := a.UnsafeCalloc(64)
			if err != nil {
				t.Fatal(err)
			}
			if *(*[64]byte)(p) != [64]byte{} {
				return "reads what was there"
			}
		}
		return "reads zeros"
	})
	add("read or write of a block of no bytes", func(t *testing.T, a *Allocator) string {
		p, err := a.UnsafeMalloc(0)
		if err != nil {
			t.Fatal(err)
		}
		if touch(func() { scribble(p, 1) }) {
			return faults
		}
		return unnoticed
	})
	add("a request of more than there is", func(t *testing.T, a *Allocator) string {
		_, err := a.UnsafeMalloc(int(^uint(0) >> 1))
		return verdictOf(err)
	})
	add("the address of the next fresh block, guessed", func(t *testing.T, a *Allocator) string {
		hits := 0
		p := mustMalloc(t, a, 64)
		for range 100 {
			q := mustMalloc(t, a, 64)
			if size := UnsafeUsableSize(p); q == unsafe.Add(p, size) || q == unsafe.Add(p, size+8) {
				hits++
			}
			p = q
		}
		if hits > 50 {
			return "right: the one behind the last"
		}
		return "mostly wrong"
	})
	add("the address of the next block after a free, guessed", func(t *testing.T, a *Allocator) string {
		hits := 0
		for range 100 {
			p := mustMalloc(t, a, 64)
			q := mustMalloc(t, a, 64)
			mustFree(t, a, p)
			mustFree(t, a, q)
			if r := mustMalloc(t, a, 64); r == p || r == q {
				hits++
			}
		}
		if hits > 50 {
			return "right: the block freed first, or last"
		}
		return "mostly wrong"
	})
	return all
}

// TestSecurity runs every program on an allocator in default and in hardened
// mode, and wants what the table in .github/SECURITY.md says.
func TestSecurity(t *testing.T) {
	if !pin.Pinned || osmem.OnGoHeap || osmem.KeepsAddresses() || osmem.PageSize() != 4<<10 || unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the table is that of shards of Ps, on a system with pages of 4 KiB whose memory is given back and faults")
	}
	// A block that one P's shard keeps is not handed out by another's.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	modes := []Options{{}, {Hardened: true}, {Canaries: true}, {Canaries: true, WipeOnFree: true}}
	for i := range modes {
		modes[i].RetainDelay = time.Hour // what the janitor unmaps is nobody's, and not to be read
	}
	var rows strings.Builder
	for _, m := range misuses() {
		fmt.Fprintf(&rows, "| %s |", m.name)
		for _, o := range modes {
			a := newAllocator(t, o)
			fmt.Fprintf(&rows, " %s |", m.run(t, a))
			if err := a.Close(); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
		rows.WriteString("\n")
	}
	doc, err := os.ReadFile("../.github/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	const head = "| program | default | Hardened | Canaries | Canaries and WipeOnFree |\n| --- | --- | --- | --- | --- |\n"
	if !strings.Contains(string(doc), head+rows.String()+"\n") {
		t.Errorf("the table in .github/SECURITY.md is not this:\n%s", rows.String())
	}
}
