// A server of HTTP/1.1 that writes the target of every request that it sees.
const http = require('http');
const server = http.createServer((request, response) => {
  console.log(request.url);
  request.on('error', () => {});
  request.resume();
  response.end('ok');
});
server.on('upgrade', (request, socket) => { console.log(request.url); socket.destroy(); });
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), '127.0.0.1');
