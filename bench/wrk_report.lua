-- wrk script: prints what was measured as one line of JSON. Of the environment: the headers AUTHORIZATION and
-- IF_NONE_MATCH, and BODY, which makes it a POST of JSON.
wrk.headers["Authorization"] = os.getenv("AUTHORIZATION")
if os.getenv("IF_NONE_MATCH") then
  wrk.headers["If-None-Match"] = os.getenv("IF_NONE_MATCH")
end
if os.getenv("BODY") then
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = os.getenv("BODY")
end

function done(summary, latency)
  local e = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "bytes": %d, "failed": %d, "p50_ms": %.4f, "p99_ms": %.4f, "max_ms": %.4f}',
    summary.requests, summary.duration / 1e6, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
