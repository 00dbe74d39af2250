package e2ee

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hpke"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strconv"
	"testing"

	"github.com/timedge/timedge/client"
)

// update writes testdata/vectors.json anew: what it said before no other client would have to read any more.
var update = flag.Bool("update", false, "write testdata/vectors.json")

func load(t *testing.T, file string, v any) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func equal(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s is %x, want %s", what, got, want)
	}
}

// TestRFC9605 runs the published vectors: every header, and both suites with AES-GCM.
func TestRFC9605(t *testing.T) {
	var v struct {
		Header [][3]string
		Sframe []struct {
			Suite    uint16 `json:"cipher_suite"`
			KID, CTR uint64
			BaseKey  string `json:"base_key"`
			Secret   string `json:"sframe_secret"`
			Salt     string `json:"sframe_salt"`
			Metadata string
			Nonce    string
			PT, CT   string
		}
	}
	load(t, "rfc9605.json", &v)
	if len(v.Header) < 100 || len(v.Sframe) != 2 {
		t.Fatalf("there are %d headers and %d suites", len(v.Header), len(v.Sframe))
	}
	for _, h := range v.Header {
		kid, err1 := strconv.ParseUint(h[0], 10, 64)
		ctr, err2 := strconv.ParseUint(h[1], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		b := appendHeader(nil, kid, ctr)
		equal(t, "the header of "+h[0]+" "+h[1], b, h[2])
		if k, c, n, ok := parseHeader(b); !ok || k != kid || c != ctr || n != len(b) {
			t.Errorf("header %s is read as %d %d", h[2], k, c)
		}
	}
	for _, s := range v.Sframe {
		suite := map[uint16]suite{4: aes128, 5: aes256}[s.Suite]
		secret, err := hkdf.Extract(suite.hash, unhex(t, s.BaseKey), nil)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the secret", secret, s.Secret)
		k, err := derive(suite, s.KID, unhex(t, s.BaseKey))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the salt", k.salt[:], s.Salt)
		nonce := k.nonce(s.CTR)
		equal(t, "the nonce", nonce[:], s.Nonce)
		sealed := k.seal(nil, s.KID, s.CTR, unhex(t, s.Metadata), unhex(t, s.PT))
		equal(t, "the ciphertext", sealed, s.CT)
		_, ctr, n, _ := parseHeader(sealed)
		plain, err := k.open(sealed, ctr, n, unhex(t, s.Metadata))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the plaintext", plain, s.PT)
	}
}

// TestRFC9180 runs the published vector of the HPKE suite in use.
func TestRFC9180(t *testing.T) {
	var v struct{ Info, Private, Public, Enc, AAD, PT, CT string }
	load(t, "rfc9180.json", &v)
	k, err := hpke.DHKEM(ecdh.P256()).NewPrivateKey(unhex(t, v.Private))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the public key", k.PublicKey().Bytes(), v.Public)
	r, err := hpke.NewRecipient(unhex(t, v.Enc), k, hpke.HKDFSHA256(), hpke.AES128GCM(), unhex(t, v.Info))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := r.Open(unhex(t, v.AAD), unhex(t, v.CT))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the plaintext", plain, v.PT)
}

// vectors are our own: what lies between the link and RFC 9605. TypeScript runs the same file.
type vectors struct {
	Messages []messageVector `json:"messages"`
	Rekey    rekeyVector     `json:"rekey"`
}

// messageVector is a message of a sender's session. Those in a row with one session are sealed by one sealer.
type messageVector struct {
	Link    string `json:"link"` // as behind &key=
	Room    string `json:"room"`
	Account string `json:"account"`
	Session string `json:"session"` // decimal
	Dtype   uint8  `json:"dtype"`
	Kind    uint8  `json:"kind"` // 0 delta, 1 key, 2 init
	Plain   string `json:"plain"`
	Sealed  string `json:"sealed"`
}

// rekeyVector is the secret of an epoch, handed to one of two members.
type rekeyVector struct {
	Room    string `json:"room"`
	Private string `json:"private"`
	Public  string `json:"public"`
	Message string `json:"message"`
	Link    string `json:"link"` // what it opens to
}

// unsealed are the messages that the vectors seal.
func unsealed() (list []messageVector) {
	var secret Secret
	for i := range secret {
		secret[i] = byte(i)
	}
	first, third := LinkKey{secret, 0}.Text(), LinkKey{secret, 17}.Text()
	const session = "81985529216486895" // 0x123456789abcdef
	long := make([]byte, 300)
	for i := range long {
		long[i] = byte(i * 7)
	}
	for _, m := range []struct {
		link    string
		room    client.RoomID
		account string
		session string
		dtype   uint8
		kind    client.Kind
		plain   string
	}{
		{first, 1, "alice", session, 65, client.Init, `{"type":"picture"}`},
		{first, 1, "alice", session, 65, client.Key, "a key picture"},
		{first, 1, "alice", session, 65, client.Delta, "what follows"},
		{first, 1, "alice", session, 66, client.Delta, "sound"},
		{first, 1, "alice", session, 66, client.Delta, ""},
		{first, 1<<63 + 2, "алиса", "1", 0, client.Delta, string(long)},
		{third, 1, "alice", "1152921504606846975", 255, client.Key, "epoch 17"},
	} {
		list = append(list, messageVector{
			m.link, m.room.String(), m.account, m.session, m.dtype, uint8(m.kind), hex.EncodeToString([]byte(m.plain)), "",
		})
	}
	return list
}

// seal seals a vector; sealers are kept from one to the next.
func (m *messageVector) seal(t *testing.T, sealers map[string]*Sealer) []byte {
	t.Helper()
	link, err := ParseLinkKey(m.Link)
	if err != nil || link.Text() != m.Link {
		t.Fatalf("link %s: %v", m.Link, err)
	}
	room, err := client.ParseRoomID(m.Room)
	if err != nil {
		t.Fatal(err)
	}
	session, err := strconv.ParseUint(m.Session, 10, 60)
	if err != nil {
		t.Fatal(err)
	}
	s := sealers[m.Session]
	if s == nil {
		s = NewKeys(link).sealer(room, m.Account, session)
		sealers[m.Session] = s
	}
	sealed, err := s.Seal(nil, m.Dtype, client.Kind(m.Kind), unhex(t, m.Plain))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// TestVectors seals and opens our own vectors.
func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	var v vectors
	load(t, "vectors.json", &v)
	if len(v.Messages) != len(unsealed()) {
		t.Fatalf("there are %d messages", len(v.Messages))
	}
	sealers, openers := make(map[string]*Sealer), make(map[string]*Opener)
	for _, m := range v.Messages {
		equal(t, "what is sealed", m.seal(t, sealers), m.Sealed)
		o := openers[m.Session]
		room, _ := client.ParseRoomID(m.Room)
		if o == nil {
			link, _ := ParseLinkKey(m.Link)
			o = NewKeys(link).Opener(room)
			openers[m.Session] = o
		}
		got := &client.Message{
			Room: room, Publisher: m.Account, Pub: 1, Dtype: m.Dtype, Kind: client.Kind(m.Kind), Payload: unhex(t, m.Sealed),
		}
		if withheld, err := o.Open(got); err != nil || withheld != 0 {
			t.Errorf("%s: %d withheld, %v", m.Plain, withheld, err)
		}
		equal(t, "what is opened", got.Payload, m.Plain)
	}

	private, err := hpke.DHKEM(ecdh.P256()).NewPrivateKey(unhex(t, v.Rekey.Private))
	if err != nil {
		t.Fatal(err)
	}
	member := &Member{private}
	equal(t, "the member's public key", member.Public(), v.Rekey.Public)
	room, err := client.ParseRoomID(v.Rekey.Room)
	if err != nil {
		t.Fatal(err)
	}
	next, err := member.Open(room, unhex(t, v.Rekey.Message))
	if err != nil || next.Text() != v.Rekey.Link {
		t.Errorf("the secret handed out: %v, want another", err)
	}
}

func writeVectors(t *testing.T) {
	v := vectors{Messages: unsealed()}
	sealers := make(map[string]*Sealer)
	for i := range v.Messages {
		v.Messages[i].Sealed = hex.EncodeToString(v.Messages[i].seal(t, sealers))
	}
	other, err := NewMember()
	if err != nil {
		t.Fatal(err)
	}
	member, err := NewMember()
	if err != nil {
		t.Fatal(err)
	}
	private, err := member.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	const room = client.RoomID(7)
	next, message, err := NewKeys(LinkKey{Secret: NewSecret()}).Next(room, [][]byte{other.Public(), member.Public()})
	if err != nil {
		t.Fatal(err)
	}
	v.Rekey = rekeyVector{
		room.String(), hex.EncodeToString(private), hex.EncodeToString(member.Public()), hex.EncodeToString(message),
		next.Text(),
	}
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/vectors.json", append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzHeader: what is read as a header is written as the very bytes, and so of a message there is one form only.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{
		"", "00", "77", "08ff", "0807", "8000ff", "f0", "99012345674567", "ffffffffffffffffffffffffffffffffff",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kid, ctr, n, ok := parseHeader(b)
		if !ok {
			return
		}
		if again := appendHeader(nil, kid, ctr); !bytes.Equal(again, b[:n]) {
			t.Errorf("%x is read as %d %d, which is written %x", b[:n], kid, ctr, again)
		}
	})
}

// FuzzOpen: nothing opens but what was sealed, and nothing is sealed but by who has the key.
func FuzzOpen(f *testing.F) {
	keys := NewKeys(LinkKey{Secret: Secret{1}})
	sealed, err := keys.sealer(5, "alice", 9).Seal(nil, 65, client.Key, []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed[:len(sealed)-1])
	f.Add(append(bytes.Clone(sealed), 0))
	f.Add([]byte(`{"type":"chat"}`))
	f.Add(binary.BigEndian.AppendUint64([]byte{0xf0}, 1<<60))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &client.Message{Room: 5, Publisher: "alice", Pub: 1, Dtype: 65, Kind: client.Key, Payload: bytes.Clone(b)}
		if _, err := keys.Opener(5).Open(m); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("%x opens to %x", b, m.Payload)
		}
	})
}

// FuzzRekey: a message that hands out secrets is read, or refused, whatever it is.
func FuzzRekey(f *testing.F) {
	member, err := NewMember()
	if err != nil {
		f.Fatal(err)
	}
	_, message, err := NewKeys(LinkKey{}).Next(1, [][]byte{member.Public()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message[:len(message)-1])
	f.Add(message[:8])
	f.Add(append(bytes.Clone(message), message[8:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := member.Open(1, b)
		opened, refused := err == nil, errors.Is(err, ErrRekey) || errors.Is(err, ErrRemoved)
		if opened && !bytes.HasPrefix(b, message) || !opened && !refused {
			t.Errorf("%x: %v", b, err)
		}
	})
}
