// Package deploy checks the files that people start vecferry with: no container
// engine is needed for that, only the libraries that the engines read them with.
package deploy

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/config"
)

// top is the folder of the repository.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	require.NoError(t, err)
	return dir
}

// load reads docker-compose.yml with every profile and without anybody's environment.
func load(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(top(t), "docker-compose.yml")}, cli.WithProfiles([]string{"*"}))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

func TestServices(t *testing.T) {
	t.Parallel()
	project := load(t)
	require.Equal(t, "vecferry", project.Name)
	pipeline, extra := []string{}, []string{}
	for name, s := range project.Services {
		require.Empty(t, s.ContainerName, "%s: a fixed name allows one project per machine", name)
		require.Empty(t, s.PullPolicy, name)
		if len(s.Profiles) == 0 {
			pipeline = append(pipeline, name)
		} else {
			extra = append(extra, name)
		}
	}
	require.ElementsMatch(t, []string{"postgres", "etcd", "minio", "milvus", "nats", "vecferry"}, pipeline)
	require.ElementsMatch(t, []string{"writer", "nats-box", "attu"}, extra)
	require.ElementsMatch(t, []string{"postgres-data", "etcd-data", "minio-data", "milvus-data", "nats-data"}, project.VolumeNames())
}

func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	pinned := regexp.MustCompile(`:(v?\d+\.\d+\.\d+|RELEASE\.\d{4}-\d{2}-\d{2})`)
	for name, s := range load(t).Services {
		if name == "vecferry" {
			require.Equal(t, "deploy/Dockerfile", s.Build.Dockerfile)
			require.Equal(t, top(t), s.Build.Context)
			require.FileExists(t, filepath.Join(s.Build.Context, s.Build.Dockerfile))
			continue
		}
		require.Nil(t, s.Build, name)
		require.Regexp(t, pinned, s.Image, name)
		require.NotContains(t, s.Image, "latest")
	}
	services := load(t).Services
	require.Contains(t, services["postgres"].Image, "-pg17")
	require.Contains(t, services["milvus"].Image, ":v2.6.")
}

func TestHealthChecks(t *testing.T) {
	t.Parallel()
	for name, s := range load(t).Services {
		if len(s.Profiles) > 0 {
			continue
		}
		h := s.HealthCheck
		require.NotNil(t, h, name)
		require.False(t, h.Disable, name)
		require.Equal(t, "CMD", h.Test[0], "%s: not by a shell, which may be missing", name)
		require.NotNil(t, h.StartInterval, name)
		require.LessOrEqual(t, time.Duration(*h.StartInterval), 2*time.Second, name)
		require.Greater(t, time.Duration(*h.StartPeriod), time.Duration(*h.StartInterval), name)
		require.NotNil(t, h.Timeout, name)
		require.NotNil(t, h.Retries, name)
	}
}

func TestEveryDependencyIsHealthyFirst(t *testing.T) {
	t.Parallel()
	project := load(t)
	for name, s := range project.Services {
		for on, d := range s.DependsOn {
			require.Equal(t, types.ServiceConditionHealthy, d.Condition, "%s on %s", name, on)
			require.NotNil(t, project.Services[on].HealthCheck, on)
		}
	}
	require.ElementsMatch(t, []string{"postgres", "milvus", "nats"}, project.Services["vecferry"].GetDependencies())
	require.ElementsMatch(t, []string{"etcd", "minio"}, project.Services["milvus"].GetDependencies())
}

func TestPortsAreLocalAndShifted(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, s := range load(t).Services {
		for _, p := range s.Ports {
			require.Equal(t, "127.0.0.1", p.HostIP, name)
			require.Empty(t, seen[p.Published], "%s and %s", name, seen[p.Published])
			seen[p.Published] = name
			require.Contains(t, []string{"15432", "29530", "14222", "18222", "19470", "18000"}, p.Published)
		}
	}
	require.Len(t, seen, 6)
}

func TestMountedFilesExistAndCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, s := range load(t).Services {
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				_, err := os.Stat(v.Source)
				require.NoError(t, err, name)
				require.True(t, v.ReadOnly, "%s: %s", name, v.Source)
			}
		}
	}
}

// TestEnvExample keeps .env.example and the defaults of docker-compose.yml equal.
func TestEnvExample(t *testing.T) {
	t.Parallel()
	compose, err := os.ReadFile(filepath.Join(top(t), "docker-compose.yml"))
	require.NoError(t, err)
	example, err := os.ReadFile(filepath.Join(top(t), ".env.example"))
	require.NoError(t, err)

	var defaults, given []string
	for _, m := range regexp.MustCompile(`\$\{(\w+):-([^}]*)\}`).FindAllStringSubmatch(string(compose), -1) {
		defaults = append(defaults, m[1]+"="+m[2])
	}
	for line := range strings.Lines(string(example)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			given = append(given, line)
		}
	}
	slices.Sort(defaults)
	require.ElementsMatch(t, slices.Compact(defaults), given)
	require.NotRegexp(t, `\$\{\w+\}`, string(compose), "a variable without a default makes the first start fail")
}

// TestVecferryConfiguration loads the mounted file as the container does, and
// follows each address in it to the service that must answer there.
func TestVecferryConfiguration(t *testing.T) {
	t.Parallel()
	project := load(t)
	service := project.Services["vecferry"]
	cfg, err := config.Load("compose/vecferry.yaml", config.Options{Env: func(name string) (string, bool) {
		v, ok := service.Environment[name]
		if !ok || v == nil {
			return "", false
		}
		return *v, true
	}})
	require.NoError(t, err)
	require.Contains(t, service.Command, service.Volumes[0].Target, "the mounted file is the one that is read")

	dsn, err := pgx.ParseConfig(cfg.Postgres.DSN.Reveal())
	require.NoError(t, err)
	pg := project.Services["postgres"]
	require.Equal(t, "postgres", dsn.Host)
	require.Equal(t, *pg.Environment["POSTGRES_DB"], dsn.Database)
	require.Equal(t, *pg.Environment["VECFERRY_PASSWORD"], cfg.Postgres.Password.Reveal())
	require.Contains(t, pg.Command, "wal_level=logical")

	host, port, err := net.SplitHostPort(cfg.Milvus.Address)
	require.NoError(t, err)
	require.Equal(t, "milvus", host)
	require.Equal(t, port, target(project.Services["milvus"], 0))

	require.Equal(t, "nats://nats:"+target(project.Services["nats"], 0), cfg.Log.NATS.URL)
	require.Equal(t, *project.Services["nats"].Environment["NATS_PASSWORD"], cfg.Log.NATS.Password.Reveal())
	require.Equal(t, "0.0.0.0:"+target(service, 0), cfg.HTTP.Listen)
	require.Contains(t, service.HealthCheck.Test, "/etc/vecferry/vecferry.yaml")
}

// target is the port inside the container of the i-th published one.
func target(s types.ServiceConfig, i int) string {
	return strconv.FormatUint(uint64(s.Ports[i].Target), 10)
}

// TestNATSConfiguration reads nats.conf with the server's own parser.
func TestNATSConfiguration(t *testing.T) {
	t.Setenv("NATS_PASSWORD", "nats-demo")
	options, err := server.ProcessConfigFile("compose/nats.conf")
	require.NoError(t, err)
	require.True(t, options.JetStream)
	require.True(t, options.SyncAlways, "an acknowledged batch must be on the disk")
	require.EqualValues(t, 8<<20, options.MaxPayload)
	require.Equal(t, "/data", options.StoreDir)
	require.Equal(t, 4222, options.Port)
	require.Equal(t, 8222, options.HTTPPort)
	require.Equal(t, "vecferry", options.Username)
	require.Equal(t, "nats-demo", options.Password)
}
