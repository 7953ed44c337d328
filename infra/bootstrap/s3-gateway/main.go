// Versitygw's S3 interface to a folder, with its default settings: `versitygw --port ADDRESS --quiet posix FOLDER`.
package main

import (
	"log"
	"os"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

func main() {
	address, folder := os.Args[2], os.Args[len(os.Args)-1]
	access, secret := os.Getenv("ROOT_ACCESS_KEY"), os.Getenv("ROOT_SECRET_KEY")
	check(meta.XattrMeta{}.Test(folder))
	options := posix.PosixOpts{CopyObjectThreshold: 5 << 30}
	options.SetNewDirPerm(0o755)
	options.SetNewFilePerm(0o644)
	objects, err := posix.New(folder, meta.XattrMeta{}, options)
	check(err)
	server, err := s3api.New(
		objects,
		middlewares.RootUserConfig{Access: access, Secret: secret},
		"us-east-1",
		auth.NewIAMServiceSingle(auth.Account{Access: access, Secret: secret, Role: auth.RoleAdmin}),
		nil, nil, nil, nil,
		s3api.WithConcurrencyLimiter(250_000, 100_000), s3api.WithMpMaxParts(10_000), s3api.WithQuiet(),
	)
	check(err)
	check(server.ServeMultiPort([]string{address}))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
