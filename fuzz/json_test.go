package fuzz

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"reflect"
	"testing"

	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

// maxNesting is how deep objects may be nested to be converted and encoded.
const maxNesting = 1000

// fromJSON returns what objects make of encoding/json's value: ints of any size and
// floats of its numbers.
func fromJSON(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if n, ok := new(big.Int).SetString(v.String(), 10); ok {
			return n
		}
		f, _ := v.Float64() // what is too large is infinite
		return f
	case []any:
		for i, x := range v {
			v[i] = fromJSON(x)
		}
	case map[string]any:
		for k, x := range v {
			v[k] = fromJSON(x)
		}
	}
	return v
}

// survey returns how deep a value is nested, and whether all of it is finite.
func survey(v any) (depth int, finite bool) {
	finite = true
	see := func(x any) {
		d, f := survey(x)
		depth, finite = max(depth, d+1), finite && f
	}
	switch v := v.(type) {
	case float64:
		finite = !math.IsInf(v, 0)
	case []any:
		for _, x := range v {
			see(x)
		}
	case map[string]any:
		for _, x := range v {
			see(x)
		}
	}
	return depth, finite
}

// emptySpace makes a Space and returns its live blocks, which it must have again when
// its objects are gone. The table of interned strings is one of them.
func emptySpace(t *testing.T, o unsafeobj.SpaceOptions) (*unsafeobj.Space, uint64) {
	t.Helper()
	s, err := unsafeobj.NewSpace(o)
	if err != nil {
		t.Fatal(err)
	}
	name, err := s.Intern("name")
	if err != nil {
		t.Fatal(err)
	}
	name.Release()
	if err := s.Trim(); err != nil {
		t.Fatal(err)
	}
	return s, s.Stats().Memory.LiveBlocks
}

// sameJSON encodes an object that was decoded from a JSON value, and decodes it again.
func sameJSON(t *testing.T, s *unsafeobj.Space, o unsafeobj.Object, value any) error {
	depth, finite := survey(value)
	got, err := unsafeobj.ToGo(o)
	if depth > maxNesting {
		if err != unsafeobj.ErrDepth {
			t.Fatalf("ToGo of a value nested %d deep: %v", depth, err)
		}
	} else if err != nil || !reflect.DeepEqual(got, value) {
		t.Fatalf("decoded %#v, %v, want %#v", got, err, value)
	}
	var text, again bytes.Buffer
	err = unsafeobj.EncodeJSON(&text, o)
	if depth > maxNesting || !finite {
		if err == nil {
			t.Fatalf("a value was encoded that is nested %d deep, or infinite", depth)
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.DecodeJSON(json.NewDecoder(bytes.NewReader(text.Bytes())))
	if err != nil {
		if errors.Is(err, pymalloc.ErrLimit) {
			return err
		}
		t.Fatalf("%q was encoded: %v", text.Bytes(), err)
	}
	defer r.Release()
	if same, err := unsafeobj.Equal(o, r.Object()); !same || err != nil {
		t.Fatalf("%v is %v when decoded again, %v", o, r.Object(), err)
	}
	if err := unsafeobj.EncodeJSON(&again, r.Object()); err != nil || again.String() != text.String() {
		t.Fatalf("encoded %q, then %q, %v", text.Bytes(), again.Bytes(), err)
	}
	made, err := s.FromGo(value)
	if err != nil {
		return err
	}
	defer made.Release()
	if same, err := unsafeobj.Equal(o, made.Object()); !same || err != nil {
		t.Fatalf("%v is %v when made of Go values, %v", o, made.Object(), err)
	}
	return nil
}

// FuzzJSON: a stream of JSON values is decoded to objects just where encoding/json
// decodes it, to the same values; what is encoded decodes to the same again; nothing is
// left, also where memory runs out.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{
		`{"a": [1, -0, 2.5e3, 1e400, 12345678901234567890], "b": {"a": null, "a": true}} [] "é😀"`,
		`[[[[[[[[{"deep": {}}]]]]]]]]`, `{"a":1,}`, `[1 2]`, `{"a" "b"}`, `[`, `nul`, `]`, "\"\xff\\ud800\"", `-`, `01`, `{1:2}`,
	} {
		f.Add([]byte(text), false, false)
		f.Add([]byte(text), true, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, shared, small bool) {
		data = data[:min(len(data), 4000)]
		o := unsafeobj.SpaceOptions{Shared: shared, Memory: pymalloc.Options{ArenaBytes: 256 << 10}}
		if small {
			o.Memory.LimitBytes = o.Memory.ArenaBytes
		}
		s, empty := emptySpace(t, o)
		objects, values := json.NewDecoder(bytes.NewReader(data)), json.NewDecoder(bytes.NewReader(data))
		values.UseNumber()
		for {
			r, err := s.DecodeJSON(objects)
			if errors.Is(err, pymalloc.ErrLimit) && small {
				break
			}
			var v any
			want := values.Decode(&v)
			if (err == nil) != (want == nil) || (err == io.EOF) != (want == io.EOF) {
				t.Fatalf("DecodeJSON: %v, encoding/json: %v", err, want)
			}
			if err != nil {
				break
			}
			err = sameJSON(t, s, r.Object(), fromJSON(v))
			r.Release()
			if err != nil {
				if !small || !errors.Is(err, pymalloc.ErrLimit) {
					t.Fatal(err)
				}
				break
			}
		}
		if err := s.Trim(); err != nil {
			t.Fatal(err)
		}
		if n := s.Stats().Memory.LiveBlocks; n != empty {
			t.Fatalf("%d blocks are left", n-empty)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
