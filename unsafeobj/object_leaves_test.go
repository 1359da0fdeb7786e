package unsafeobj

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/pyarena/pyarena/pymalloc"
)

// The leaves are counted exactly while the Space stands still, whoever made and released
// them, small and large, in Stats and by Close.
func TestObjectLeavesCounted(t *testing.T) {
	for name, o := range map[string]SpaceOptions{
		"owned":    {},
		"debug":    {Debug: true},
		"hardened": {Memory: pymalloc.Options{Hardened: true}},
		"wiped":    {Memory: pymalloc.Options{WipeOnFree: true, ArenaBytes: 256 << 10}},
	} {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/shared=%t", name, shared), func(t *testing.T) {
				o.Shared = shared
				testLeavesCounted(t, o)
			})
		}
	}
}

func testLeavesCounted(t *testing.T, o SpaceOptions) {
	s := objectMust(NewSpace(o))
	kinds := []func(i int) AnyRef{
		func(i int) AnyRef { return objectMust(s.Int(int64(1000 + i))).Any() },
		func(i int) AnyRef { return objectMust(s.Float(float64(i))).Any() },
		func(i int) AnyRef { return objectMust(s.BigInt(new(big.Int).Lsh(big.NewInt(int64(i+1)), 100))).Any() },
		func(i int) AnyRef { return objectMust(s.String(strings.Repeat("s", i%200))).Any() },
		func(i int) AnyRef { return objectMust(s.Intern(fmt.Sprint(i))).Any() },
		func(i int) AnyRef { return objectMust(s.Bytes(make([]byte, i%3000))).Any() },
	}
	left := make([][]AnyRef, 4)
	var wg sync.WaitGroup
	for g := range left {
		work := func() {
			for i := range 600 {
				left[g] = append(left[g], kinds[i%len(kinds)](i*len(left)+g))
			}
			for i := range 300 {
				left[g][2*i].Release()
			}
		}
		if !o.Shared {
			work()
			continue
		}
		wg.Go(work)
	}
	wg.Wait()
	for i := range left[0] { // by another than made them
		if i%4 == 1 {
			left[0][i].Release()
			left[1][i].Release()
		}
	}
	for _, n := range []int{100 << 10, 2 << 20} { // in an arena, and a mapping of its own
		a, b := objectMust(s.Bytes(make([]byte, n))), objectMust(s.Bytes(make([]byte, n)))
		left[0] = append(left[0], a.Any())
		b.Release()
		objectMust(s.List(make([]Object, 0, 8)...))
	}
	l := objectMust(s.List())
	for range 100_000 {
		objectOK(t, l.Get().Append(None()))
	}
	want := map[string]int{"list": 3}
	for _, refs := range left {
		for i := range refs {
			if !refs[i].IsZero() {
				want[TypeOf(refs[i].Object()).Name()]++
			}
		}
	}
	if got := s.Stats().Objects; !maps.Equal(got, want) {
		t.Errorf("Stats counts %v, want %v", got, want)
	}
	var leak *LeakError
	if err := s.Close(); !errors.As(err, &leak) || !maps.Equal(leak.Objects, want) {
		t.Errorf("Close: %v, want %v", err, want)
	}
}
