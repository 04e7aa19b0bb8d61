package config

import (
	"errors"
	"slices"
	"strings"
)

var errDSN = errors.New("must be postgres://user@host:5432/database, or host=… user=… dbname=… " +
	"(in a URI, write @ : / ? # of a password as %40 %3A %2F %3F %23)")

// checkDSN refuses what cannot be a connection string. Its errors never quote it.
func checkDSN(text string) error {
	if isURI(text) {
		if _, ok := splitURI(text); !ok {
			return errDSN
		}
		return nil
	}
	if pairs, ok := splitPairs(text); !ok || len(pairs) == 0 {
		return errDSN
	}
	return nil
}

// maskDSN hides the passwords. What it cannot take apart with certainty it hides as a whole.
func maskDSN(text string) string {
	if isURI(text) {
		if u, ok := splitURI(text); ok {
			return u.masked()
		}
		return Mask
	}
	pairs, ok := splitPairs(text)
	if !ok || len(pairs) == 0 {
		return Mask
	}
	for i, p := range pairs {
		pairs[i].value = quotePair(maskParam(p))
	}
	return joinPairs(pairs, " ")
}

// pair is one keyword with its value.
type pair struct{ key, value string }

func joinPairs(pairs []pair, separator string) string {
	parts := make([]string, len(pairs))
	for i, p := range pairs {
		parts[i] = p.key + "=" + p.value
	}
	return strings.Join(parts, separator)
}

// maskParam shows only the parameters that are known to hold no secret.
func maskParam(p pair) string {
	harmless := []string{
		"host", "hostaddr", "port", "dbname", "database", "user", "sslmode", "sslrootcert", "sslcert",
		"sslkey", "application_name", "connect_timeout", "target_session_attrs", "search_path", "timezone",
		"service", "passfile", "servicefile", "pool_max_conns", "channel_binding", "sslnegotiation",
	}
	if slices.Contains(harmless, strings.ToLower(p.key)) {
		return p.value
	}
	return Mask
}

// dsnURI is a connection URI in pieces.
type dsnURI struct {
	scheme, user string
	password     bool
	hosts, path  string
	params       []pair
}

func isURI(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// splitURI takes a URI apart. net/url is not used: it refuses the lists of hosts that libpq allows.
func splitURI(text string) (u dsnURI, ok bool) {
	scheme, rest, _ := strings.Cut(text, "://")
	u.scheme = scheme
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, hasPath := strings.Cut(rest, "/")
	if hasPath {
		u.path = "/" + path
	}
	// An @ or a # further on is a password that was not escaped: nothing can be said about its end.
	if strings.ContainsAny(u.path+query, "@#") || strings.ContainsAny(text, "#\x00") {
		return u, false
	}
	u.hosts = authority
	if user, hosts, found := strings.Cut(authority, "@"); found {
		u.hosts = hosts
		u.user, _, u.password = strings.Cut(user, ":")
	}
	u.params = splitQuery(query)
	return u, hostsOK(u.hosts)
}

func splitQuery(query string) []pair {
	var params []pair
	for part := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(part, "="); key != "" {
			params = append(params, pair{key, value})
		}
	}
	return params
}

func hostsOK(hosts string) bool {
	for host := range strings.SplitSeq(hosts, ",") {
		name, port, _ := cutPort(host)
		if strings.ContainsAny(name, "@ \t\r\n") || (port != "" && !portOK(port)) {
			return false
		}
	}
	return true
}

func (u dsnURI) masked() string {
	text := u.scheme + "://" + u.user
	if u.password {
		text += ":" + Mask
	}
	if u.user != "" || u.password {
		text += "@"
	}
	text += u.hosts + u.path
	if len(u.params) == 0 {
		return text
	}
	for i, p := range u.params {
		u.params[i].value = maskParam(p)
	}
	return text + "?" + joinPairs(u.params, "&")
}

// splitPairs reads keyword/value pairs by libpq's rules: spaces around =, quotes, backslashes.
func splitPairs(text string) (pairs []pair, ok bool) {
	const space = " \t\r\n"
	for text = strings.Trim(text, space); text != ""; text = strings.TrimLeft(text, space) {
		key, rest, found := strings.Cut(text, "=")
		key = strings.TrimRight(key, space)
		if !found || key == "" || strings.ContainsAny(key, space+`'\@:/`) {
			return nil, false
		}
		value, rest, closed := pairValue(strings.TrimLeft(rest, space))
		if !closed {
			return nil, false
		}
		pairs, text = append(pairs, pair{key, value}), rest
	}
	return pairs, true
}

// pairValue reads one value, quoted or bare, and returns what follows.
func pairValue(text string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(text, "'")
	if quoted {
		text = text[1:]
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case quoted && c == '\'':
			return b.String(), text[i+1:], true
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			return b.String(), text[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}

// quotePair puts a value in quotes where it needs them.
func quotePair(value string) string {
	if value != "" && !strings.ContainsAny(value, " \t\r\n'\\") {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
