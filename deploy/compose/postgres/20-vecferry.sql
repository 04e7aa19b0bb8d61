-- What vecferry needs: a role that may replicate and read the table, and a
-- publication, which only the owner of the table can make.
\getenv password VECFERRY_PASSWORD
CREATE ROLE vecferry LOGIN REPLICATION PASSWORD :'password';
GRANT SELECT ON documents TO vecferry;
CREATE PUBLICATION vecferry_documents FOR TABLE documents;
