package config

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// format is a named rule for texts: a pattern that the JSON Schema shares, and what it cannot say.
type format struct {
	pattern string
	says    string
	also    func(string) bool
}

// formatOf returns the rule of a format tag.
func formatOf(name string) (format, bool) {
	switch name {
	case "pipeline":
		return format{`^[a-z][a-z0-9_]{0,39}$`, "must be 1 to 40 of a-z, 0-9 and _, starting with a letter", nil}, true
	case "slot":
		return format{`^[a-z0-9_]{1,63}$`, "must be 1 to 63 of a-z, 0-9 and _", nil}, true
	case "identifier":
		return format{`^.{1,63}$`, "must be a PostgreSQL name of 1 to 63 bytes, without quotes", identifierOK}, true
	case "milvus_name":
		return format{`^[A-Za-z_][A-Za-z0-9_]{0,254}$`,
			"must be 1 to 255 of A-Z, a-z, 0-9 and _, not starting with a digit", nil}, true
	case "address":
		return format{`^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$`,
			"must be host:port, such as 127.0.0.1:19530", addressOK}, true
	case "listen":
		return format{`^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]*):[0-9]{1,5}$`,
			"must be host:port, such as 127.0.0.1:9470", listenOK}, true
	case "nats_url":
		const server = `(nats|tls|ws|wss)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?`
		return format{`^` + server + `( ?, ?` + server + `)*$`,
			"must be nats://host:4222, servers separated by commas, credentials in their own keys", nil}, true
	default:
		return format{}, false
	}
}

func (f format) accepts(text string) bool {
	ok, err := regexp.MatchString(f.pattern, text)
	return err == nil && ok && (f.also == nil || f.also(text))
}

// identifierOK reports whether PostgreSQL takes the name whole: longer ones it would cut.
func identifierOK(name string) bool {
	const longest = 63
	return name != "" && len(name) <= longest && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

func addressOK(text string) bool {
	_, port, _ := cutPort(text)
	return portOK(port)
}

// listenOK allows port 0, which lets the system choose one.
func listenOK(text string) bool {
	_, port, _ := cutPort(text)
	return portOK(port) || port == "0"
}

func portOK(port string) bool {
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && number > 0
}

// cutPort splits host:port at the last colon outside of brackets.
func cutPort(text string) (host, port string, found bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 || i < strings.LastIndexByte(text, ']') {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}
