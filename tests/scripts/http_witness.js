// A server of HTTP/1.1 that writes every request that it sees, a line of JSON each, when it has ended.
const http = require('http');
const tell = (request, chunks, whole) => console.log(JSON.stringify({
  method: request.method, target: request.url, fields: request.rawHeaders,
  body: whole ? Buffer.concat(chunks).toString('hex') : null,
}));
const serve = (request, response) => {
  const chunks = [];
  request.on('error', () => {});
  request.on('data', (data) => chunks.push(data));
  request.on('end', () => { tell(request, chunks, request.complete); response.end('ok'); });
  request.on('close', () => { if (!request.complete) tell(request, chunks, false); });
};
const server = http.createServer(serve);
// An expectation is no reason to see less.
server.on('checkContinue', serve);
server.on('checkExpectation', serve);
server.on('upgrade', (request, socket) => { tell(request, [], false); socket.destroy(); });
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), '127.0.0.1');
