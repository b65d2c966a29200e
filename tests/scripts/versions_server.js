// Echoes over HTTP/2 in the clear (first port) and HTTP/1.1 (second): says how it was asked, body and trailers included.
const http = require('http');
const http2 = require('http2');
const [, , port, port1] = process.argv;
const serve = (request, response) => {
  const chunks = [];
  request.on('error', () => {});
  request.on('data', (data) => chunks.push(data));
  request.on('end', () => {
    const body = Buffer.concat(chunks);
    const seen = {
      version: request.httpVersion, method: request.method, url: request.url, length: body.length,
      sum: body.reduce((sum, byte) => (sum * 31 + byte) >>> 0, 7),
      trailers: request.trailers, declared: request.headers['content-length'] || null,
      host: request.headers.host || request.headers[':authority'], te: request.headers.te || null,
    };
    const text = JSON.stringify(seen);
    const status = Number(new URL(request.url, 'http://a').searchParams.get('status') || 200);
    const headers = { 'content-type': 'application/json', trailer: 'x-sum' };
    if (request.url.startsWith('/length')) { headers['content-length'] = Buffer.byteLength(text); delete headers.trailer; }
    const bodiless = request.method === 'HEAD' || status === 204 || status === 304;
    if (bodiless) delete headers.trailer;
    response.writeHead(status, headers);
    if (bodiless) { response.end(); return; }
    response.write(text.slice(0, 10));
    if (!request.url.startsWith('/length')) response.addTrailers({ 'x-sum': String(seen.sum) });
    response.end(text.slice(10));
  });
};
http.createServer(serve).listen(Number(port1), '127.0.0.1');
http2.createServer(serve).listen(Number(port), '127.0.0.1');
