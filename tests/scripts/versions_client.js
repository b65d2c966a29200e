// Asks an echo of versions_server.js behind the gateway: URL, `1` or `2`, the version that the server must see.
const assert = require('assert');
const http = require('http');
const http2 = require('http2');
const [, , url, own, servers] = process.argv;
setTimeout(() => { console.log('too slow'); process.exit(1); }, 25000).unref();
const session = own === '2' ? http2.connect(url) : null;
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const sum = (body) => body.reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7);

const ask2 = (method, path, body, trailers) => new Promise((resolve, reject) => {
  const stream = session.request(
    {
      ':method': method, ':path': path, ':authority': 'a.example', te: 'trailers',
      ...(trailers ? { trailer: Object.keys(trailers).join(', ') } : {}),
    },
    { endStream: body === null, waitForTrailers: trailers !== null },
  );
  const got = { chunks: [], trailers: {} };
  if (trailers) stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  stream.on('response', (headers) => { got.status = headers[':status']; got.headers = headers; });
  stream.on('trailers', (headers) => { got.trailers = headers; });
  stream.on('data', (data) => got.chunks.push(data));
  stream.on('end', () => resolve(got));
  stream.on('error', reject);
  if (body !== null) stream.end(body);
});

const ask1 = (method, path, body, trailers) => new Promise((resolve, reject) => {
  const headers = { host: 'a.example', te: 'trailers', connection: 'te, keep-alive' };
  if (trailers) { headers.trailer = Object.keys(trailers).join(', '); headers['transfer-encoding'] = 'chunked'; }
  else if (body !== null) headers['content-length'] = body.length;
  const request = http.request(url + path, { method, headers, agent }, (response) => {
    const got = { status: response.statusCode, headers: response.headers, chunks: [] };
    response.on('data', (data) => got.chunks.push(data));
    response.on('end', () => { got.trailers = response.trailers; resolve(got); });
  });
  request.on('error', reject);
  if (trailers) { request.write(body); request.addTrailers(trailers); request.end(); }
  else request.end(body === null ? undefined : body);
});

const ask = session ? ask2 : ask1;
const large = Buffer.alloc(3000000, 'abcdefg');

(async () => {
  for (const [method, path, body, trailers] of [
    ['GET', '/a?x=%2F', null, null],
    ['GET', '/length', null, null],
    ['POST', '/b', Buffer.from('short'), null],
    ['POST', '/length', large, null],
    ['PUT', '/c', large, { 'x-end': 'yes', 'x-forwarded-for': '6.6.6.6' }],
    ['GET', '/with-body', Buffer.from('odd'), { 'x-end': 'yes' }],
    ['DELETE', '/d', null, null],
    ['OPTIONS', '/e', null, null],
  ]) {
    const got = await ask(method, path, body, trailers);
    const seen = JSON.parse(Buffer.concat(got.chunks).toString());
    assert.strictEqual(got.status, 200);
    assert.deepStrictEqual([seen.version, seen.method, seen.url, seen.host], [servers, method, path, 'a.example']);
    assert.strictEqual(seen.length, body === null ? 0 : body.length, method + path);
    if (body) assert.strictEqual(seen.sum, sum(body));
    if (trailers) assert.deepStrictEqual({ ...seen.trailers }, { 'x-end': 'yes' }, method + path + servers);
    assert.strictEqual(seen.te, 'trailers');
    if (path !== '/length') assert.strictEqual(got.trailers['x-sum'], String(seen.sum), JSON.stringify(got.trailers));
  }
  for (const [method, path, status] of [['HEAD', '/length', 200], ['GET', '/n?status=204', 204], ['GET', '/n?status=304', 304]]) {
    const got = await ask(method, path, null, null);
    assert.deepStrictEqual([got.status, got.chunks.length], [status, 0]);
  }
  // The same connection goes on.
  const got = await ask('GET', '/last', null, null);
  assert.strictEqual(got.status, 200);
  console.log('ok');
  process.exit(0);
})().catch((error) => { console.log(error); process.exit(1); });
