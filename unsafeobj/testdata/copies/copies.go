// Package copies has what go vet is to tell of.
package copies

import "github.com/pyarena/pyarena/unsafeobj"

func space(s *unsafeobj.Space) { _ = *s }

func namespace(n *unsafeobj.Namespace) { _ = *n }
