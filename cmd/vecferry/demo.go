package main

import "github.com/spf13/cobra"

func newDemo(*globals) *cobra.Command { return &cobra.Command{Use: "demo"} }
