package unsafeobj

import "testing"

// A condemned object, to which a finaliser has made a weak reference, does not come
// back between the slices that cut and free it.
func TestObjectWeakOfCondemned(t *testing.T) {
	s := objectSpace(t, SpaceOptions{})
	s.gc.slice = SliceLimit{Objects: 1}
	var weak []Weak[Instance[objectNode]]
	class := objectClass(t, func(n Instance[objectNode]) { weak = append(weak, objectMust(NewWeak(n, nil))) })
	r := ring(t, s, class, 20)
	holder := objectMust(s.List())
	objectOK(t, r.Get().Payload().Right.Set(r.Object(), holder.Get()))
	r.Release()
	for done := false; !done; {
		done = objectMust(s.CollectSlice())
		if c := s.gc.old; c == nil || c.phase < cutting {
			continue
		}
		for _, w := range weak {
			if _, alive := w.Get(); alive {
				t.Fatal("a condemned object came back")
			}
		}
		for _, n := range s.Referrers(holder.Object()) {
			t.Fatal("a condemned object came back as a referrer: ", n.Object())
		}
	}
	if len(weak) != 20 {
		t.Fatal(len(weak), "finalised")
	}
	holder.Release()
	collectAll(t, s)
	noneLeft(t, s)
}
