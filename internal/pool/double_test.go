package pool_test

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
)

// drained hands out all blocks that the pool has, and returns them with the broken
// links that were met.
func drained(t *testing.T, h *pool.Header, hot unsafe.Pointer) (got, broken []unsafe.Pointer) {
	t.Helper()
	seen := map[unsafe.Pointer]bool{}
	for {
		if p := h.Pop(); p != nil {
			if pool.Unseal(p); seen[p] {
				t.Fatalf("block %d was handed out twice", h.Index(p))
			}
			seen[p] = true
			got = append(got, p)
			continue
		}
		ok, bad := h.Refill(uintptr(hot))
		if bad != nil {
			broken = append(broken, bad)
		} else if !ok {
			return got, broken
		}
	}
}

// Of two that free a block, neither of them its owner, one succeeds; its link and the
// lengths stay as they are.
func TestDoubleRemote(t *testing.T) {
	for _, order := range [][]int{{3, 3}, {3, 4, 3}, {1, 3, 4, 3, 5}, {3, 3, 3}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			h := newPool(t, 64)
			all := allocAll(t, h)
			distinct := map[int]bool{}
			for _, i := range order {
				want := pool.Pushed
				if distinct[i] {
					want = pool.Double
				}
				push(t, h, all[i], want)
				distinct[i] = true
				wantWord(t, h, me, pool.Quiet, uint32(len(distinct)))
				if err := h.Check(); err != nil {
					t.Fatal(err)
				}
			}
			for i := range all {
				if !distinct[i] {
					if h.Retire(0) {
						t.Fatalf("retired, and block %d is in use", i)
					}
					h.Push(uint32(i))
				}
			}
			if !h.Retire(0) {
				t.Error("not retired, and empty")
			}
		})
	}
}

// race lets the owner and another free the block at p at the same moment: neither
// sees what the other does.
func race(t *testing.T, h *pool.Header, p unsafe.Pointer) {
	t.Helper()
	h.Push(h.Index(p))
	push(t, h, p, pool.Pushed)
}

// A block that was freed by its owner and by another at the same moment is counted
// twice by lengths: the pool is not retired for that while a block is in use, and is
// when none is.
func TestDoubleOwner(t *testing.T) {
	for _, pending := range []int{0, 1, 31, 32, 33, 100} { // others on the remote list before it
		for _, merged := range []bool{false, true} {
			for _, remote := range []bool{false, true} { // the free of the last block
				h := newPool(t, 16) // 256 blocks
				all := allocAll(t, h)
				p, q := all[200], all[201]
				for _, r := range all[:pending] {
					push(t, h, r, pool.Pushed)
				}
				race(t, h, p)
				for i := uint32(pending); i < h.Blocks(); i++ {
					if i != h.Index(p) && i != h.Index(q) {
						h.Push(i)
					}
				}
				if n := h.Live(); h.Word().Len() != n {
					t.Fatalf("the length is %d, %d are live: the test does not test", h.Word().Len(), n)
				}
				if h.Retire(0) {
					t.Fatalf("%d pending: retired, and a block is in use", pending)
				}
				if merged {
					for !h.IsQuiet(pool.OwnerWord(me)) {
						h.Quieten(0)
					}
					wantCounts(t, h, 1, 1)
					if err := h.Check(); err != nil {
						t.Error(err)
					}
					if h.Retire(0) {
						t.Fatalf("%d pending: retired, and a block is in use", pending)
					}
				}
				if remote {
					push(t, h, q, pool.Pushed)
				} else {
					h.Push(h.Index(q))
				}
				if !h.Retire(0) {
					t.Errorf("%d pending, merged %v, remote %v: not retired, and empty", pending, merged, remote)
				}
				h.Own(me)
				if !h.IsQuiet(pool.OwnerWord(me)) || h.InUse() != 0 {
					t.Error("the pool has a list, or blocks in use")
				}
				if n := len(allocAll(t, h)); n != 256 {
					t.Errorf("%d blocks", n)
				}
			}
		}
	}

	// With none in use the entry is not even looked at.
	h := newPool(t, 64)
	race(t, h, alloc(t, h))
	if !h.Retire(0) {
		t.Error("not retired, and empty")
	}
	wantWord(t, h, pool.Free, pool.Quiet, 0)
	h.Own(me)
	if !h.IsQuiet(pool.OwnerWord(me)) || h.InUse() != 0 {
		t.Error("the pool has a list, or blocks in use")
	}
	allocAll(t, h)
}

// Freed twice, and handed out again before the owner comes to the entry on the list:
// the pool has a block in use, though lengths, and the numbers of the blocks too, say
// that all are free. The block is not handed out once more.
func TestDoubleHandedOut(t *testing.T) {
	h := newPool(t, 64)
	all := allocAll(t, h)
	for i := range h.Blocks() {
		if i != 3 && i != 5 && i != 7 {
			h.Push(i)
		}
	}
	push(t, h, all[5], pool.Pushed)
	race(t, h, all[3])
	push(t, h, all[7], pool.Pushed)
	var others []unsafe.Pointer // that are handed out before it
	for p := alloc(t, h); p != all[3]; p = alloc(t, h) {
		others = append(others, p)
	}
	for _, p := range others {
		h.Push(h.Index(p))
	}
	if h.Word().Len() != h.Live() {
		t.Fatal("the test does not test")
	}
	if h.Retire(0) {
		t.Fatal("retired, and a block is in use")
	}
	// Its link is gone: block 7 before it is free, and block 5 behind it is lost.
	got, broken := drained(t, h, nil)
	if len(broken) != 1 || broken[0] != all[3] {
		t.Errorf("broken is %v, want %p", broken, all[3])
	}
	if len(got) != len(all)-2 {
		t.Errorf("%d blocks were handed out, want all %d but two", len(got), len(all))
	}
	for _, p := range got {
		if p == all[3] || p == all[5] {
			t.Errorf("block %d was handed out", h.Index(p))
		}
	}
}

// A block that the shard keeps for the next malloc, while another has pushed it, comes
// from the shard, and not from the chain too.
func TestDoubleKept(t *testing.T) {
	for _, late := range []bool{false, true} { // kept after the other has linked it
		h := newPool(t, 64)
		all := allocAll(t, h)
		push(t, h, all[5], pool.Pushed)
		if !late {
			*(*uint64)(all[3]) = 42
		}
		push(t, h, all[3], pool.Pushed)
		if late {
			pool.Seal(all[3])
		}
		push(t, h, all[7], pool.Pushed)
		got, broken := drained(t, h, all[3])
		want := []unsafe.Pointer{all[5], all[7]}
		if late { // the link to block 5 is overwritten
			want = want[1:]
		}
		if !bytes.Equal(fmt.Append(nil, got), fmt.Append(nil, want)) {
			t.Errorf("late %v: handed out are %v, want %v", late, got, want)
		}
		if late != (len(broken) == 1 && broken[0] == all[3]) || !late && broken != nil {
			t.Errorf("late %v: broken is %v", late, broken)
		}
		wantState(t, h, all[3], pool.Freed, "kept")
		if !late {
			for i := range h.Blocks() {
				if i != 3 {
					h.Push(i)
				}
			}
			push(t, h, all[9], pool.Pushed) // one too many, as block 3 was
			if h.Word().Len() != h.Live() || h.Retire(uintptr(all[3])) {
				t.Error("retired, and a block is kept")
			}
			h.Push(3) // as a shard that is drained does
			if !h.Retire(0) {
				t.Error("not retired, and empty")
			}
		}
	}
}

// What begins no block, as when a pool has become one of another class since a free
// began, is not followed.
func TestDoubleElsewhere(t *testing.T) {
	h := newPool(t, 64)
	all := allocAll(t, h)
	push(t, h, all[5], pool.Pushed)
	push(t, h, unsafe.Add(all[3], 16), pool.Pushed)
	if got, broken := drained(t, h, nil); len(got) != 0 || len(broken) != 1 || broken[0] != unsafe.Add(all[3], 16) {
		t.Errorf("handed out are %v, broken is %v", got, broken)
	}
}

// TestPushRemoteWipes: a block is cleared but for its link, and no other.
func TestPushRemoteWipes(t *testing.T) {
	for _, size := range []int{16, 48, 512, 2048} {
		h := newPool(t, size)
		all := allocAll(t, h)
		for _, p := range all {
			scribble(p, h.Size())
		}
		if did, _, _ := h.PushRemote(all[1], other, true, true); did != pool.Pushed {
			t.Fatalf("outcome %d", did)
		}
		if did, _, _ := h.PushRemote(all[1], other, true, true); did != pool.Double {
			t.Fatalf("outcome %d of the second, want Double", did)
		}
		wantState(t, h, all[1], pool.Freed, "wiped")
		for i, p := range all {
			b := unsafe.Slice((*byte)(p), h.Size())
			if i == 1 && bytes.Count(b[8:], []byte{0}) != len(b)-8 || i != 1 && bytes.Count(b, []byte{0xa4}) != len(b) {
				t.Errorf("size %d: block %d holds %x", size, i, b)
			}
		}
	}
}

// TestDoubleStress: three goroutines free each block of a pool, while its owner
// collects them and hands them out as soon as all three are through. Of the three one
// succeeds.
func TestDoubleStress(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	const freers = 3
	for range rounds {
		h := newPool(t, 256)
		all := allocAll(t, h)
		var wg sync.WaitGroup
		done := make([]atomic.Int32, len(all))
		for n := range freers {
			wg.Go(func() {
				for i := range all {
					if n == 1 {
						i = len(all) - 1 - i
					}
					did, _, _ := h.PushRemote(all[i], other+uint32(n), true, n == 2)
					switch did {
					case pool.Pushed:
						done[i].Add(1)
					case pool.Double:
					default:
						t.Errorf("outcome %d", did)
					}
				}
			})
		}
		for range 100 {
			h.Quieten(0)
		}
		wg.Wait()
		for i := range done {
			if n := done[i].Load(); n != 1 {
				t.Fatalf("%d of %d frees of block %d succeeded", n, freers, i)
			}
		}
		if err := h.Check(); err != nil {
			t.Fatal(err)
		}
		if !h.Retire(0) {
			t.Fatal("not retired, and empty")
		}
	}
}

// TestDoubleOwnerStress: the owner and another free the same block, in every order
// that comes, and the owner retires the pool at once if it can, and owns it again. It
// cannot while another block is in use. The other's free leaves a block as it is where
// the pool is gone.
func TestDoubleOwnerStress(t *testing.T) {
	rounds := 100_000
	if testing.Short() {
		rounds = 10_000
	}
	h := newPool(t, 256)
	var turn, answer atomic.Int64
	var p unsafe.Pointer
	const data = 0x1234567
	go func() {
		for n := int64(1); n <= int64(rounds); n++ {
			for turn.Load() != n {
				runtime.Gosched()
			}
			did, _, _ := h.PushRemote(p, other, true, false)
			answer.Store(n<<8 | int64(did))
		}
	}()
	seen := map[pool.Outcome]int{}
	for n := int64(1); n <= int64(rounds); n++ {
		var q unsafe.Pointer
		if n%2 == 0 {
			q = alloc(t, h)
		}
		p = alloc(t, h)
		*(*uint64)(p) = data
		turn.Store(n)
		h.Push(h.Index(p))
		if h.Retire(0) {
			if q != nil {
				t.Fatal("retired, and a block is in use")
			}
		}
		for answer.Load()>>8 != n {
			runtime.Gosched()
		}
		did := pool.Outcome(answer.Load())
		seen[did]++
		switch did {
		case pool.Pushed:
		case pool.Refused:
			if got := *(*uint64)(p); got != data || q != nil {
				t.Fatalf("refused, and the block holds %#x", got)
			}
		default:
			t.Fatalf("outcome %d", did)
		}
		if q != nil {
			h.Push(h.Index(q))
		}
		if h.Owner() == me && !h.Retire(0) {
			t.Fatalf("not retired, and empty: %d live", h.Live())
		}
		h.Own(me)
	}
	t.Logf("%d pushed, %d refused", seen[pool.Pushed], seen[pool.Refused])
}
