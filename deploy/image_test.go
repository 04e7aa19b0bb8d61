package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// stage is one FROM of a Dockerfile and the instructions behind it.
type stage struct {
	from         string
	instructions []string
}

// stages reads a Dockerfile without comments, continued lines joined.
func stages(t *testing.T, path string) []stage {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	text = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAll(text, nil)
	text = regexp.MustCompile(`\\\n\s*`).ReplaceAll(text, nil)
	var out []stage
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "FROM "):
			out = append(out, stage{from: strings.TrimPrefix(line, "FROM ")})
		default:
			require.NotEmpty(t, out, "an instruction before FROM: %s", line)
			out[len(out)-1].instructions = append(out[len(out)-1].instructions, line)
		}
	}
	return out
}

func (s stage) find(t *testing.T, keyword string) string {
	t.Helper()
	for _, i := range s.instructions {
		if rest, ok := strings.CutPrefix(i, keyword+" "); ok {
			return rest
		}
	}
	require.Fail(t, "no instruction", "%s in %s", keyword, s.from)
	return ""
}

func TestDockerfileStages(t *testing.T) {
	t.Parallel()
	all := stages(t, "Dockerfile")
	require.Len(t, all, 2)
	build, run := all[0], all[1]

	require.Regexp(t, `^--platform=\$BUILDPLATFORM golang:\d+\.\d+\.\d+ AS build$`, build.from)
	mod, err := os.ReadFile(filepath.Join("..", "go.mod"))
	require.NoError(t, err)
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	require.Contains(t, build.from, "golang:"+string(language[1])+".", "the image's Go and go.mod's")
	commands := strings.Join(build.instructions, "\n")
	require.Contains(t, commands, "CGO_ENABLED=0", "there is no C library in the image")
	require.Contains(t, commands, "-trimpath")
	require.Contains(t, commands, "main.version=$VERSION")
	require.Contains(t, commands, "./cmd/vecferry")

	require.Regexp(t, `^gcr\.io/distroless/static-debian\d+:nonroot$`, run.from)
	require.Equal(t, "65532:65532", run.find(t, "USER"), "as numbers, so that Kubernetes can see that it is not root")
	require.Equal(t, `["/vecferry"]`, run.find(t, "ENTRYPOINT"))
	require.Equal(t, `["run", "-c", "/etc/vecferry/vecferry.yaml"]`, run.find(t, "CMD"))
	require.Equal(t, "9470", run.find(t, "EXPOSE"))
	labels := run.find(t, "LABEL")
	for _, name := range []string{"title", "description", "source", "documentation", "licenses", "version"} {
		require.Contains(t, labels, "org.opencontainers.image."+name+"=")
	}
	for _, i := range run.instructions {
		require.False(t, strings.HasPrefix(i, "RUN"), "the image has no shell to run %q", i)
		if strings.HasPrefix(i, "COPY") {
			require.Contains(t, i, "--from=build")
		}
	}
}

// TestDockerignoreKeepsWhatTheBuildEmbeds: a file that is left out of the
// context fails the build only where there is an engine to build.
func TestDockerignoreKeepsWhatTheBuildEmbeds(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", ".dockerignore"))
	require.NoError(t, err)
	lines := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(string(text), ""))
	require.Contains(t, lines, ".git")
	require.Contains(t, lines, ".env")

	embeds := regexp.MustCompile(`(?m)^//go:embed (.+)$`)
	require.NoError(t, filepath.WalkDir("..", func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if self, relErr := filepath.Rel("..", path); relErr != nil || ignored(lines, filepath.ToSlash(self)) {
			return relErr // not in the image itself
		}
		source, err := os.ReadFile(path)
		for _, m := range embeds.FindAllStringSubmatch(string(source), -1) {
			for name := range strings.FieldsSeq(m[1]) {
				rel, relErr := filepath.Rel("..", filepath.Join(filepath.Dir(path), name))
				require.NoError(t, relErr)
				require.False(t, ignored(lines, filepath.ToSlash(rel)), "%s embeds %s, which .dockerignore leaves out", path, rel)
			}
		}
		return err
	}))
	require.True(t, ignored(lines, "deploy/Dockerfile"))
	require.True(t, ignored(lines, "README.md"))
	require.False(t, ignored(lines, "cmd/vecferry/main.go"))
}

// ignored applies the lines of a .dockerignore in order; the last that matches wins.
func ignored(lines []string, path string) bool {
	out := false
	for _, line := range lines {
		pattern, keep := strings.CutPrefix(line, "!")
		pattern = regexp.QuoteMeta(pattern)
		pattern = strings.ReplaceAll(pattern, `\*\*/`, `(.*/)?`)
		pattern = strings.ReplaceAll(pattern, `\*`, `[^/]*`)
		if regexp.MustCompile("^" + pattern + "(/|$)").MatchString(path) {
			out = !keep
		}
	}
	return out
}
