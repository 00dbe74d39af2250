package tim

// auth is TimAuth: who a client says it is.
type auth struct {
	Name     string
	Pwd      string
	Domain   string
	Resource string
	Termtyp  int8
	Token    string
}

func (m *auth) parse(b []byte) error {
	r, last := reader{b: b}, 0
	for typ, more := r.next(&last); more; typ, more = r.next(&last) {
		switch last {
		case 1:
			m.Name = r.string(typ)
		case 2:
			m.Pwd = r.string(typ)
		case 3:
			m.Domain = r.string(typ)
		case 4:
			m.Resource = r.string(typ)
		case 5:
			m.Termtyp = int8(r.integer(typ))
		case 6:
			m.Token = r.string(typ)
		default:
			r.skip(typ)
		}
	}
	return r.err
}

// ack is TimAck: the answer to a request, which a client knows by TimType, T and N alone.
type ack struct {
	OK      bool     `json:"ok"`
	TimType int8     `json:"timType"`
	Error   *failure `json:"error,omitempty"`
	T       *int64   `json:"t,omitempty"`
	N       string   `json:"n,omitempty"`
	N2      string   `json:"n2,omitempty"`
}

func (m *ack) append(dst []byte) []byte {
	f := fields{b: dst}
	f.boolean(1, m.OK)
	f.i8(2, m.TimType)
	if m.Error != nil {
		e := f.begin(3)
		e.integer(1, wireI32, int64(m.Error.Code))
		e.text(2, m.Error.Info)
		f.end(e)
	}
	if m.T != nil {
		f.integer(4, wireI64, *m.T)
	}
	f.text(5, m.N)
	f.text(7, m.N2)
	return append(f.b, wireStop)
}

// request is TimReq: what a client wants of a room.
type request struct {
	Rtype  int32
	Node   string // the room
	Node2  string // the account
	ReqInt int64
}

// What request.Rtype asks for.
const (
	opRegister    = 1
	opRemove      = 2
	opAddAuth     = 3
	opDelAuth     = 4
	opSubscribe   = 5
	opUnsubscribe = 6
)

func (m *request) parse(b []byte) error {
	r, last := reader{b: b}, 0
	for typ, more := r.next(&last); more; typ, more = r.next(&last) {
		switch last {
		case 1:
			m.Rtype = saturate(r.integer(typ))
		case 2:
			m.Node = r.string(typ)
		case 3:
			m.Node2 = r.string(typ)
		case 4:
			m.ReqInt = r.integer(typ)
		default:
			r.skip(typ)
		}
	}
	return r.err
}

// stream is TimStream: a push into a room, and its delivery. Body aliases the input when parsed.
type stream struct {
	ID    int64
	VNode string // the room
	Dtype uint8  // 0 is left out
	Body  []byte
	From  string // account of the publisher
}

func (m *stream) parse(b []byte) error {
	r, last := reader{b: b}, 0
	for typ, more := r.next(&last); more; typ, more = r.next(&last) {
		switch last {
		case 1:
			m.ID = r.integer(typ)
		case 2:
			m.VNode = r.string(typ)
		case 3:
			m.Dtype = uint8(r.integer(typ))
		case 4:
			m.Body = r.bytes(typ)
		case 5:
			m.From = r.string(typ)
		default:
			r.skip(typ)
		}
	}
	return r.err
}

// head appends all that comes before the bytes of the body, tail all that comes behind: the body itself is copied once,
// from where it was received to where it is sent from.
func (m *stream) head(dst []byte) []byte {
	f := fields{b: dst}
	f.integer(1, wireI64, m.ID)
	f.string(2, m.VNode)
	if m.Dtype != 0 {
		f.i8(3, int8(m.Dtype))
	}
	f.opaque(4, len(m.Body))
	return f.b
}

func (m *stream) tail(dst []byte) []byte {
	f := fields{b: dst, last: 4}
	f.string(5, m.From)
	return append(f.b, wireStop)
}

// tid is Tid: an account, and the login that speaks for it.
type tid struct {
	Node     string `json:"node"`
	Domain   string `json:"domain,omitempty"`
	Resource string `json:"resource,omitempty"`
	Termtyp  int8   `json:"termtyp,omitempty"`
}

func (m *tid) parse(r *reader) {
	last := 0
	for typ, more := r.next(&last); more; typ, more = r.next(&last) {
		switch last {
		case 1:
			m.Node = r.string(typ)
		case 2:
			m.Domain = r.string(typ)
		case 3:
			m.Resource = r.string(typ)
		case 4:
			m.Termtyp = int8(r.integer(typ))
		default:
			r.skip(typ)
		}
	}
}

func (m *tid) append(f *fields, id int) {
	if m == nil {
		return
	}
	in := f.begin(id)
	in.string(1, m.Node)
	in.text(2, m.Domain)
	in.text(3, m.Resource)
	if m.Termtyp != 0 {
		in.i8(4, m.Termtyp)
	}
	f.end(in)
}

// message is TimMessage, as far as streams from account to account go: one push, with what the caller says about it.
type message struct {
	MsType    int8   `json:"msType"`
	OdType    int8   `json:"odType"`
	ID        int64  `json:"id,omitempty"`
	From      *tid   `json:"fromTid,omitempty"`
	To        *tid   `json:"toTid,omitempty"`
	Room      *tid   `json:"roomTid,omitempty"`
	Binary    []byte `json:"dataBinary,omitempty"` // aliases the input when parsed
	Text      string `json:"dataString,omitempty"`
	Timestamp int64  `json:"timestamp,omitempty"` // ns since 1970
	UDType    int16  `json:"udtype,omitempty"`
	UDShow    int16  `json:"udshow,omitempty"`
}

// The values of MsType and OdType that make a message a stream to an account.
const (
	toAccount = 2
	toRoom    = 3
	odStream  = 5
)

func (m *message) parse(b []byte) error {
	r, last := reader{b: b}, 0
	for typ, more := r.next(&last); more; typ, more = r.next(&last) {
		switch last {
		case 1:
			m.MsType = int8(r.integer(typ))
		case 2:
			m.OdType = int8(r.integer(typ))
		case 3:
			m.ID = r.integer(typ)
		case 6:
			r.tid(typ, &m.From)
		case 7:
			r.tid(typ, &m.To)
		case 8:
			r.tid(typ, &m.Room)
		case 9:
			m.Binary = r.bytes(typ)
		case 10:
			m.Text = r.string(typ)
		case 12:
			m.Timestamp = r.integer(typ)
		case 13:
			m.UDType = int16(r.integer(typ))
		case 14:
			m.UDShow = int16(r.integer(typ))
		default:
			r.skip(typ)
		}
	}
	return r.err
}

func (r *reader) tid(typ byte, to **tid) {
	if r.enter(typ) {
		*to = new(tid)
		(*to).parse(r)
		r.leave()
	}
}

func (m *message) append(dst []byte) []byte {
	f := fields{b: dst}
	f.i8(1, m.MsType)
	f.i8(2, m.OdType)
	if m.ID != 0 {
		f.integer(3, wireI64, m.ID)
	}
	m.From.append(&f, 6)
	m.To.append(&f, 7)
	m.Room.append(&f, 8)
	if len(m.Binary) > 0 {
		f.opaque(9, len(m.Binary))
		f.b = append(f.b, m.Binary...)
	}
	f.text(10, m.Text)
	if m.Timestamp != 0 {
		f.integer(12, wireI64, m.Timestamp)
	}
	if m.UDType != 0 {
		f.integer(13, wireI16, int64(m.UDType))
	}
	if m.UDShow != 0 {
		f.integer(14, wireI16, int64(m.UDShow))
	}
	return append(f.b, wireStop)
}
