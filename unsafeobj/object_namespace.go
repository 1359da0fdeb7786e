package unsafeobj

import (
	"fmt"
	"iter"
	"slices"
)

// Namespace is what Python's globals is: names bound to objects. It owns its objects
// until it is closed, and is used as its Space is. It must not be copied.
type Namespace struct {
	_     noCopy
	names Ref[Dict]
}

// noCopy has go vet tell of copies of what it is in.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// Namespace returns an empty namespace.
func (s *Space) Namespace() (*Namespace, error) {
	d, err := s.Dict()
	if err != nil {
		return nil, err
	}
	return &Namespace{names: d}, nil
}

// NameError is a name that is not bound.
type NameError struct{ Name string }

func (e *NameError) Error() string { return fmt.Sprintf("name '%s' is not defined", e.Name) }

// Is makes a NameError an [ErrNotFound].
func (e *NameError) Is(target error) bool { return target == ErrNotFound }

// Set binds a name to an object, which is borrowed.
func (n *Namespace) Set(name string, v Object) error { return n.names.Get().SetString(name, v) }

// Get returns a new reference to what a name is bound to, or a [NameError].
func (n *Namespace) Get(name string) (AnyRef, error) {
	r, err := n.names.Get().GetString(name)
	if err == ErrNotFound {
		err = &NameError{name}
	}
	return r, err
}

// Del unbinds names; the first that is not bound is a [NameError], and those after
// it are left.
func (n *Namespace) Del(names ...string) error {
	for _, name := range names {
		if err := n.names.Get().DeleteString(name); err != nil {
			if err == ErrNotFound {
				err = &NameError{name}
			}
			return err
		}
	}
	return nil
}

// Len returns the number of names.
func (n *Namespace) Len() int { return n.names.Get().Len() }

// Dir returns the names, sorted.
func (n *Namespace) Dir() []string {
	var names []string
	for name := range n.Items() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Items returns names and objects, as [Dict.All] does.
func (n *Namespace) Items() iter.Seq2[string, Object] {
	return func(yield func(string, Object) bool) {
		for k, v := range n.names.Get().All() {
			if name, err := As[String](k); err == nil && !yield(name.Value(), v) {
				return
			}
		}
	}
}

// Dict returns the dict of the names, borrowed.
func (n *Namespace) Dict() Dict { return n.names.Get() }

// Close releases the names and what they are bound to.
func (n *Namespace) Close() { n.names.Release() }
