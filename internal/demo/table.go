package demo

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/pgvector/pgvector-go"
)

// TableName is the table of the demonstration.
const TableName = "documents"

// ddl is the shape that applications give such a table.
const ddl = `create table documents (
  id             bigserial primary key,
  workspace_id   text not null,
  title          text not null,
  content        text not null,
  has_deprecated bool not null,
  has_fixme      bool not null,
  has_todo       bool not null,
  has_security   bool not null,
  metadata       jsonb,
  updated_at     timestamptz not null,
  embedding      vector(1536)
)`

// columns are those that Fill and the Writer give a row, in the order of values.
func columns() []string {
	return []string{"workspace_id", "title", "content", "has_deprecated", "has_fixme", "has_todo", "has_security",
		"metadata", "updated_at", "embedding"}
}

func (d Document) values() []any {
	return []any{d.WorkspaceID, d.Title, d.Content, d.HasDeprecated, d.HasFixme, d.HasTodo, d.HasSecurity,
		d.Metadata, d.UpdatedAt, wire(Embed(d.Text()))}
}

// wire is a vector in the binary form of its type.
func wire(v []float32) []byte {
	b, _ := pgvector.NewVector(v).EncodeBinary(nil) // it has no way to fail
	return b
}

// Connect opens a session that can send and read vectors in binary form; the
// database must have the extension.
func Connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("demo: connect: %w", err)
	}
	var oid uint32
	if err := conn.QueryRow(ctx, "select 'vector'::regtype::oid").Scan(&oid); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("demo: type vector: %w", err)
	}
	// Its binary form is passed through as bytes.
	conn.TypeMap().RegisterType(&pgtype.Type{Name: "vector", OID: oid, Codec: pgtype.ByteaCodec{}})
	return conn, nil
}

// CreateDatabase makes a database with extension vector; admin is a session in
// another database of the server.
func CreateDatabase(ctx context.Context, admin, dsn, name string) error {
	if err := execute(ctx, admin, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return err
	}
	return execute(ctx, dsn, "create extension vector")
}

func execute(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("demo: connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("demo: %s: %w", sql, err)
	}
	return nil
}

// CreateTable makes the table, empty.
func CreateTable(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, ddl); err != nil {
		return fmt.Errorf("demo: create table: %w", err)
	}
	return nil
}

// Fill embeds documents and copies them into the table in one binary COPY; the
// keys are 1, 2, 3 and so on. It returns the number of rows.
func Fill(ctx context.Context, conn *pgx.Conn, docs []Document) (int64, error) {
	rows := pgx.CopyFromSlice(len(docs), func(i int) ([]any, error) { return docs[i].values(), ctx.Err() })
	n, err := conn.CopyFrom(ctx, pgx.Identifier{TableName}, columns(), rows)
	if err != nil {
		return n, fmt.Errorf("demo: fill: %w", err)
	}
	if _, err := conn.Exec(ctx, "analyze "+TableName); err != nil {
		return n, fmt.Errorf("demo: analyze: %w", err)
	}
	return n, nil
}
