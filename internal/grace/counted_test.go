//go:build pymalloc_nolinkname

package grace

import (
	"testing"
	"time"
)

// TestLateCount: a section that has read the epoch and counts itself only after
// that epoch was waited for delays the next Wait all the same, whichever set of
// counters it is in.
func TestLateCount(t *testing.T) {
	for _, waitsBetween := range []int{0, 1, 2} {
		for parity := range 2 {
			token := 5<<1 | parity // of a section that is about to count itself
			for range waitsBetween {
				Wait()
			}
			counters[Hash(token)].running[parity].Add(1)
			returned := make(chan struct{})
			go func() {
				Wait()
				close(returned)
			}()
			select {
			case <-returned:
				t.Errorf("parity %d: Wait returned during the section", parity)
			case <-time.After(3 * time.Millisecond):
			}
			Exit(token)
			<-returned
		}
	}
}

// TestTokens: a token leads Exit to the counter that Enter took.
func TestTokens(t *testing.T) {
	for range 5 {
		token := Enter()
		if h := Hash(token); h < 0 || h >= spread {
			t.Errorf("token %d has hash %d, want below %d", token, h, spread)
		}
		Exit(token)
		Wait()
	}
	for i := range counters {
		for parity := range 2 {
			if n := counters[i].running[parity].Load(); n != 0 {
				t.Errorf("counter %d of parity %d is %d, want 0", i, parity, n)
			}
		}
	}
}
