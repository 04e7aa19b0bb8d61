package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vecferry/vecferry/internal/postgres"
)

func newSlot(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "slot", Short: "Works on the replication slot", Args: args(cobra.NoArgs), RunE: help}
	var yes bool
	drop := &cobra.Command{
		Use: "drop", Short: "Drops the slot and the publication, so that Postgres keeps no WAL for this pipeline any more", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.load()
			if err != nil {
				return err
			}
			src, err := postgres.Open(cmd.Context(), sourceOptions(c.Postgres, 1))
			if err != nil {
				return err
			}
			defer src.Close()
			return dropSlot(cmd, src, names{c.Postgres.Slot, c.Postgres.Publication, c.Postgres.CreatePublication}, yes)
		},
	}
	drop.Flags().BoolVar(&yes, "yes", false, "do it; without, only say what would be done")
	cmd.AddCommand(drop)
	return cmd
}

// names are what a pipeline has in the source.
type names struct {
	slot, publication string
	ours              bool // the publication was made by vecferry
}

// dropSlot removes what the pipeline has in the source. A pipeline whose slot
// is gone does not go on: it has to start over with an empty log and collection.
func dropSlot(cmd *cobra.Command, src *postgres.Source, n names, yes bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	slot, err := src.SlotState(ctx, n.slot)
	if err != nil {
		return err
	}
	if !slot.Exists {
		fmt.Fprintf(out, "there is no slot %s\n", n.slot)
	} else if slot.Active {
		return fmt.Errorf("slot %s is in use by process %d: stop vecferry run first", n.slot, slot.ActivePID)
	}
	if !yes {
		fmt.Fprintf(out, "would drop slot %s, which keeps %s of WAL", n.slot, bytesText(slot.Retained))
		if n.ours {
			fmt.Fprintf(out, ", and publication %s", n.publication)
		}
		fmt.Fprintln(out, "; the pipeline cannot go on afterwards, only start over. Say --yes to do it")
		return &quietError{exitUsage}
	}
	return errors.Join(drop(ctx, src, n), say(out, "dropped slot %s\n", n.slot))
}

func drop(ctx context.Context, src *postgres.Source, n names) error {
	if err := src.DropSlot(ctx, n.slot); err != nil {
		return err
	}
	if !n.ours {
		return nil
	}
	return src.DropPublication(ctx, n.publication)
}

func say(w interface{ Write([]byte) (int, error) }, format string, a ...any) error {
	_, err := fmt.Fprintf(w, format, a...)
	return err
}
