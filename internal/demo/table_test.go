package demo

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vecferry/vecferry/internal/testenv"
)

func TestFillCopiesEveryColumn(t *testing.T) {
	t.Parallel()
	db, _, docs := newTable(t, 60)
	require.EqualValues(t, 60, one[int64](t, db, "select max(id) from documents"))
	for i, d := range docs[:5] {
		id := int64(i + 1)
		require.Equal(t, wire(Embed(d.Text())), one[[]byte](t, db, "select embedding from documents where id = $1", id), "bit for bit")
		require.Equal(t, d.Title, one[string](t, db, "select title from documents where id = $1", id))
		require.Equal(t, d.Metadata["package"], one[string](t, db, "select metadata ->> 'package' from documents where id = $1", id))
		require.True(t, one[bool](t, db, "select updated_at = $2 and has_todo = $3 and content = $4 and workspace_id = $5 from documents where id = $1",
			id, d.UpdatedAt, d.HasTodo, d.Content, d.WorkspaceID))
	}
	require.Equal(t, Dimensions, one[int](t, db, "select min(vector_dims(embedding)) from documents"))
}

func TestCreateDatabase(t *testing.T) {
	t.Parallel()
	own := testenv.OwnPostgres(t, 16, nil)
	require.NoError(t, CreateDatabase(t.Context(), own.DSN("postgres"), own.DSN("a-b"), "a-b"))
	db := openSession(t, own.DSN("a-b"))
	require.NoError(t, CreateTable(t.Context(), db))
	require.Error(t, CreateTable(t.Context(), db), "it is there")
}

func TestConnectNeedsTheExtension(t *testing.T) {
	t.Parallel()
	db := testenv.Postgres(t, 16)
	db.Exec("drop extension vector")
	_, err := Connect(t.Context(), db.DSN)
	require.ErrorContains(t, err, "vector")
}
