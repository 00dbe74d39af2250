package engine

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/timedge/timedge/codec"
)

// requestKind is a kind of request, for the metrics.
type requestKind uint8

const (
	noRequest requestKind = iota
	askRegister
	askRemove
	askGrant
	askRevoke
	askPublish
	askUnpublish
	askSubscribe
	askUnsubscribe
	askStat
	askInbox
	askToken
	requestKinds
)

var requestNames = [requestKinds]string{
	"", "register", "remove", "grant", "revoke", "publish", "unpublish", "subscribe", "unsubscribe", "stat", "inbox", "token",
}

// requestOf returns the kind of request that a type of frame is.
func requestOf(typ byte) requestKind {
	switch typ {
	case codec.TypeRegister:
		return askRegister
	case codec.TypeRemove:
		return askRemove
	case codec.TypeGrant:
		return askGrant
	case codec.TypeRevoke:
		return askRevoke
	case codec.TypePublish:
		return askPublish
	case codec.TypeUnpublish:
		return askUnpublish
	case codec.TypeSubscribe:
		return askSubscribe
	case codec.TypeUnsubscribe:
		return askUnsubscribe
	case codec.TypeStat:
		return askStat
	case codec.TypeInbox:
		return askInbox
	case codec.TypeToken:
		return askToken
	}
	return noRequest
}

// outcome is how a request was answered.
type outcome uint8

const (
	outcomeOK outcome = iota
	outcomeRefused
	outcomes
)

var outcomeNames = [outcomes]string{"ok", "refused"}

// requests counts answers to clients' requests.
type requests [requestKinds][outcomes]atomic.Uint64

var descRequests = desc("requests_total",
	"Requests of clients that were answered, by kind and outcome; refused_total has the codes.", "kind", "outcome")

func (r *requests) collect(counter func(*prometheus.Desc, uint64, ...string)) {
	for kind := noRequest + 1; kind < requestKinds; kind++ {
		for how := range outcomes {
			counter(descRequests, r[kind][how].Load(), requestNames[kind], outcomeNames[how])
		}
	}
}

// answering calls f, which may answer a request of a kind. Loop only.
func (s *session) answering(kind requestKind, f func()) {
	l := s.loop
	l.answers = kind
	defer func() { l.answers = noRequest }()
	f()
}

// countAnswer counts a frame to a client if it answers a request. Loop only.
func (s *session) countAnswer(kind requestKind, c codec.Control) {
	if kind == noRequest || !s.role.client() {
		return
	}
	how := outcomeOK
	if _, is := c.(*codec.Refused); is {
		how = outcomeRefused
	} else if _, is := answerOf(c); !is {
		return
	}
	s.loop.eng.requests[kind][how].Add(1)
}
