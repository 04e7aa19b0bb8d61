package demo

import (
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Dimensions of the vectors that Embed returns.
const Dimensions = 1536

// Weights of the kinds of features. A word counts most; its pieces make
// "parsing" and "parser" neighbours; pairs of words prefer the same phrase.
const (
	wordWeight  = 1.0
	pairWeight  = 0.7
	pieceWeight = 0.25
)

// feature is one thing that was seen in a text: a hash and the kind it is of.
type feature struct {
	hash   uint64
	weight float32
}

// Embed returns a vector of Dimensions elements and length 1 that stands for a
// text: equal texts have equal vectors, bit for bit, and texts that share words
// or pieces of words are near each other by cosine. Text without a letter or
// digit has the vector of its bytes, so that none is zero.
//
// It hashes words, pairs of words and pieces of 3 to 5 bytes to signed
// coordinates, each with the logarithm of its count.
func Embed(text string) []float32 {
	words := split(text)
	features := make([]feature, 0, 16*len(words)+1)
	last := ""
	for _, w := range words {
		if isStopWord(w) {
			continue
		}
		features = append(features, feature{hash('w', w), wordWeight})
		if last != "" {
			features = append(features, feature{hash('p', last, w), pairWeight})
		}
		features = appendPieces(features, w)
		last = w
	}
	if len(features) == 0 {
		features = append(features, feature{hash('t', text), 1})
	}
	return project(features)
}

// appendPieces adds the pieces of a word with its ends marked.
func appendPieces(to []feature, word string) []feature {
	marked := "<" + word + ">"
	for n := 3; n <= 5; n++ {
		for i := 0; i+n <= len(marked); i++ {
			to = append(to, feature{hash('c', marked[i:i+n]), pieceWeight})
		}
	}
	return to
}

// project adds the features up in the order of their hashes, because sums of
// floats depend on it, and scales the sum to length 1.
func project(features []feature) []float32 {
	slices.SortFunc(features, func(a, b feature) int {
		if a.hash < b.hash {
			return -1
		}
		if a.hash > b.hash {
			return 1
		}
		return 0
	})
	sum := make([]float64, Dimensions)
	for len(features) > 0 {
		f, n := features[0], 1
		for n < len(features) && features[n].hash == f.hash {
			n++
		}
		features = features[n:]
		value := float64(f.weight) * (1 + math.Log(float64(n)))
		if f.hash>>63 == 1 {
			value = -value
		}
		sum[f.hash%Dimensions] += value
	}
	return unit(sum)
}

func unit(sum []float64) []float32 {
	var square float64
	for _, v := range sum {
		square += v * v
	}
	out := make([]float32, len(sum))
	if square == 0 {
		out[0] = 1 // features that cancel out exactly
		return out
	}
	scale := 1 / math.Sqrt(square)
	for i, v := range sum {
		out[i] = float32(v * scale)
	}
	return out
}

// hash is FNV-1a with a final mix: the low bits choose the coordinate, the high
// bit the sign, and FNV alone leaves the high bits of short inputs alike.
func hash(kind byte, parts ...string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := (uint64(offset) ^ uint64(kind)) * prime
	for _, p := range parts {
		for i := range len(p) {
			h = (h ^ uint64(p[i])) * prime
		}
		h *= prime // a zero byte between the parts
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return h
}

// split returns the words in lower case; CamelCase names are also given in
// their parts.
func split(text string) []string {
	var words []string
	for _, token := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		parts := camelParts(token)
		for _, p := range parts {
			words = append(words, strings.ToLower(p))
		}
		if len(parts) > 1 {
			words = append(words, strings.ToLower(token))
		}
	}
	return words
}

// camelParts splits a name before each capital that starts a word: NewReader
// gives New and Reader, JSONText gives JSON and Text.
func camelParts(token string) []string {
	var parts []string
	start, last := 0, rune(0)
	for i, r := range token {
		following, _ := utf8.DecodeRuneInString(token[i+utf8.RuneLen(r):])
		boundary := unicode.IsUpper(r) && (unicode.IsLower(last) || unicode.IsUpper(last) && unicode.IsLower(following))
		if boundary && i > start {
			parts = append(parts, token[start:i])
			start = i
		}
		last = r
	}
	return append(parts, token[start:])
}

// isStopWord says which words appear everywhere and tell nothing.
func isStopWord(w string) bool {
	switch w {
	case "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "do", "does", "for", "from", "given",
		"has", "have", "how", "if", "in", "into", "is", "it", "its", "may", "not", "of", "on", "or", "s", "should",
		"such", "t", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "when", "which",
		"will", "with", "you", "your":
		return true
	}
	return false
}
