"""The peer of the API benchmark on PostgreSQL: `fastapi_backend.py`'s list, read with asyncpg, the fastest driver there is for it.

Run: PEER_DB=postgres://… PGPASSWORD=… uvicorn fastapi_postgres:app --port 8000 --loop uvloop --http httptools --log-level error
Seeds an empty database with 1 user and 200 conversations at its start.
GET /token             -> a bearer token (HS256)
GET /api/v1/conversations?limit=50 -> JSON, needs the token
"""
import contextlib
import os
import time

import asyncpg
import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Request

SECRET = "benchmark-only-secret-benchmark-only"
CONNECTIONS = int(os.environ.get("PEER_CONNECTIONS", "10"))
TABLE = """
CREATE TABLE conversation (id TEXT PRIMARY KEY, owner TEXT, title TEXT, created_at BIGINT, updated_at BIGINT);
CREATE INDEX by_owner ON conversation (owner, updated_at DESC);
"""
LIST = "SELECT id, title, created_at, updated_at FROM conversation WHERE owner = $1 ORDER BY updated_at DESC LIMIT $2"


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    async with asyncpg.create_pool(os.environ["PEER_DB"], min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        now = int(time.time())
        rows = [(f"c{i:05}", "u1", f"Conversation number {i}", now - i, now - i) for i in range(200)]
        await pool.execute(TABLE)
        await pool.copy_records_to_table("conversation", records=rows)
        await pool.execute("ANALYZE conversation")
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


# A coroutine, where the guide's is a function, which FastAPI would call on another thread: that is faster.
async def user(authorization: str = Header()) -> str:
    try:
        return jwt.decode(authorization.removeprefix("Bearer "), SECRET, algorithms=["HS256"])["sub"]
    except jwt.InvalidTokenError:
        raise HTTPException(401, "invalid token")


@app.get("/token")
async def token():
    return {"access_token": jwt.encode({"sub": "u1", "exp": int(time.time()) + 3600}, SECRET, "HS256")}


@app.get("/api/v1/conversations")
async def conversations(request: Request, limit: int = 50, owner: str = Depends(user)):
    rows = await request.app.state.pool.fetch(LIST, owner, limit)
    return {"items": [dict(row) for row in rows]}
