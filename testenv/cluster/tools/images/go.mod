module weir.local/testenv/images

go 1.24.0
