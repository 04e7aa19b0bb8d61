package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/vecferry/vecferry/internal/config"
)

// version is set by the linker.
var version = "dev"

// globals are the flags of every command.
type globals struct {
	path     string
	set      []string
	noExpand bool
	level    string
	format   string
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:           "vecferry",
		Short:         "Carries a live PostgreSQL + pgvector table into Milvus",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          args(cobra.NoArgs),
		RunE:          help,
	}
	f := root.PersistentFlags()
	f.StringVarP(&g.path, "config", "c", "vecferry.yaml", "configuration file")
	f.StringArrayVar(&g.set, "set", nil, "override one value, such as --set tables.0.batch_rows=500")
	f.BoolVar(&g.noExpand, "no-expand-env", false, "take ${VAR} in the file as it stands")
	f.StringVar(&g.level, "log-level", "", "debug, info, warn or error")
	f.StringVar(&g.format, "log-format", "", "auto, text or json")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newRun(g), newStatus(g), newWait(g), newSlot(g), newConfig(g), newHealthcheck(g), newDemo(g), newVersion())
	return root
}

// help is what a command does that has only subcommands.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// args wraps an argument check, so that its errors are usage errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return &usageError{err}
		}
		return nil
	}
}

// load reads the configuration with the command line's overrides.
func (g *globals) load() (*config.Config, error) {
	set := g.set
	if g.level != "" {
		set = append(set, "logging.level="+g.level)
	}
	if g.format != "" {
		set = append(set, "logging.format="+g.format)
	}
	return config.Load(g.path, config.Options{Set: set, NoExpand: g.noExpand})
}

// newLogger writes to standard error: text on a terminal, JSON elsewhere,
// unless the configuration says which.
func newLogger(c config.Logging) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(c.Level)) != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "text" || c.Format == "auto" && term.IsTerminal(int(os.Stderr.Fd())) {
		return slog.New(slog.NewTextHandler(os.Stderr, o))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, o))
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Prints the version", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			goVersion := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				goVersion = info.GoVersion
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "vecferry %s (%s)\n", version, goVersion)
			return err
		},
	}
}

func newConfig(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Shows and checks the configuration", Args: args(cobra.NoArgs), RunE: help}
	var asJSON bool
	show := &cobra.Command{
		Use: "show", Short: "Prints every value with its source; secrets are masked", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			if asJSON {
				return c.RenderJSON(cmd.OutOrStdout())
			}
			return c.Render(cmd.OutOrStdout())
		},
	}
	show.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	validate := &cobra.Command{
		Use: "validate", Short: "Checks the file without asking any server", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := g.load(); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is right\n", g.path)
			return err
		},
	}
	cmd.AddCommand(show, validate,
		printer("schema", "Prints the JSON Schema of the file", config.JSONSchema),
		printer("sample", "Prints a commented sample with every key", config.Sample))
	return cmd
}

// printer is a command that prints what a function returns.
func printer(use, short string, text func() []byte) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(text())
			return err
		},
	}
}
